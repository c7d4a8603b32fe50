"""`python -m headrace.simulated_model --port 8081 --latency 2`."""

import argparse

from headrace.simulated_model.options import ModelOptions
from headrace.simulated_model.serving import run


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="headrace.simulated_model", description="Anthropic's Messages API, simulated."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="how long a call takes")
    arguments = parser.parse_args()
    run(arguments.host, arguments.port, ModelOptions(latency_s=arguments.latency))


if __name__ == "__main__":
    main()
