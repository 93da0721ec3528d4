"""Stage: the kept images -> TFRecord shards of every split.

python -m pipeline.shards   # prints the images per class and split
"""

from rich.console import Console

from emotion_detection.data.sharding import counts_table, write_shards
from emotion_detection.engine import chosen
from emotion_detection.errors import reported
from emotion_detection.params import load_params
from emotion_detection.pushing import measured


def main() -> None:
    params = load_params()
    info = chosen(write_shards)(params.data, params.seed)
    Console().print(counts_table(info))


if __name__ == "__main__":
    with reported(), measured("shards"):
        main()
