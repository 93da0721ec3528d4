"""Stage validate: look at every image of the data set and decide which are used.

    python -m pipeline.validate

Reads data/dataset.parquet; writes data/decisions.parquet, reports/validation.json and the pages in
reports/validation/. Ends with status 1 where something critical is found, after they are written.
"""

from emotion_detection.artifacts import DATASET, DECISIONS, VALIDATION_DOCS, VALIDATION_JSON, write_record
from emotion_detection.data.defects import judge
from emotion_detection.data.measurements import measure
from emotion_detection.data.quality import check, write_decisions
from emotion_detection.data.report import print_report, require, summarise
from emotion_detection.data.suspicion import mark
from emotion_detection.errors import reported
from emotion_detection.params import load_params
from emotion_detection.pushing import measured


def main() -> None:
    params = load_params()
    images = mark(measure(DATASET, params.data.max_pixels), params.validation.suspicious.file)
    verdict = judge(images, params.validation, params.data.classes)
    write_decisions(DECISIONS, images, verdict)
    report = summarise(images, verdict, check(images, verdict, params, VALIDATION_DOCS))
    write_record(VALIDATION_JSON, report)
    print_report(report)
    require(report)


if __name__ == "__main__":
    with reported(), measured("validate"):
        main()
