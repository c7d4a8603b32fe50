"""What tests set and read over HTTP: fault rules that need no text, and the record of calls.

PUT    /control/faults   [{"kind": "529", "times": 3}, {"kind": "drop", "until": 1767225600.0, "retry_after": 1}]
DELETE /control/faults
GET    /control/calls    totals, and how often each call id and each request body was started and completed;
                         with `?brief=1` the totals only
DELETE /control/calls
PUT    /control/released/NAME
                         answers that stop at `[[hold:NAME]]` go on
"""

import orjson
from aiohttp import web

from headrace.simulated_model.faults import FaultRules
from headrace.simulated_model.holds import Holds
from headrace.simulated_model.ledger import CallLedger
from headrace.simulated_model.requests import RequestRefusedError
from headrace.simulated_model.stream import error_body


def add_control(app: web.Application, rules: FaultRules, ledger: CallLedger, holds: Holds) -> None:
    """Add the control routes to the application."""

    async def put_faults(request: web.Request) -> web.Response:
        try:
            count = rules.replace(await request.read())
        except RequestRefusedError as error:
            body = error_body(error.error_type, error.message, "req_control")
            return web.Response(body=body, status=error.status, content_type="application/json")
        return _json({"rules": count})

    async def delete_faults(_: web.Request) -> web.Response:
        rules.clear()
        return _json({"rules": 0})

    async def get_calls(request: web.Request) -> web.Response:
        return _json(ledger.snapshot(is_brief=request.query.get("brief") == "1"))

    async def delete_calls(_: web.Request) -> web.Response:
        ledger.reset()
        return _json(ledger.snapshot(is_brief=True))

    async def put_released(request: web.Request) -> web.Response:
        holds.release(request.match_info["name"])
        return _json({"released": request.match_info["name"]})

    app.router.add_put("/control/faults", put_faults)
    app.router.add_delete("/control/faults", delete_faults)
    app.router.add_get("/control/calls", get_calls)
    app.router.add_delete("/control/calls", delete_calls)
    app.router.add_put("/control/released/{name}", put_released)


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
