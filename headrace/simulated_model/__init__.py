"""A simulated model: Anthropic's Messages API at the wire, without a model behind it.

The real SDK talks to it over HTTP. Its replies are a function of the request alone, so a demo is repeatable and a test
can say in the text of a message what shall happen (`headrace.simulated_model.directives` lists what can be said).
"""

from headrace.simulated_model.options import ModelOptions
from headrace.simulated_model.server import create_app
from headrace.simulated_model.serving import run, running_server

__all__ = ["ModelOptions", "create_app", "run", "running_server"]
