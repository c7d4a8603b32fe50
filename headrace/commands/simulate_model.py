"""`headrace simulate-model`."""


def simulate_model(*, host: str = "127.0.0.1", port: int = 8081, latency: float = 0.0) -> int:
    """Serve the simulated model: Anthropic's Messages API without a model behind it, until Ctrl-C.

    Any program that uses the SDK can talk to it: `ANTHROPIC_BASE_URL=http://127.0.0.1:8081 ANTHROPIC_API_KEY=x`.

    Example: `headrace simulate-model --port 8081 --latency 2`

    Parameters
    ----------
    host
        The address to listen on.
    port
        The port to listen on.
    latency
        How long each call takes, in seconds, its text paced over that time.
    """
    from headrace.simulated_model import ModelOptions
    from headrace.simulated_model import run as run_model

    run_model(host, port, ModelOptions(latency_s=latency))
    return 0
