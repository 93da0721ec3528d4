"""Stage: data set, decisions and shards -> reports/data/, a page with pictures of the data.

python -m pipeline.pictures
"""

from emotion_detection.artifacts import DATA_PICTURES
from emotion_detection.data.pictures import write_pictures
from emotion_detection.errors import reported
from emotion_detection.params import load_params
from emotion_detection.pushing import measured


def main() -> None:
    write_pictures(load_params())
    print(f"pictures of the data: {DATA_PICTURES}/index.html")


if __name__ == "__main__":
    with reported(), measured("pictures"):
        main()
