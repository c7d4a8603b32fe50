"""What can be read at the door: sessions, what they did and cost, audit, dead letters, the pipeline."""

from gateway.reads import audit, dead_letters, log, pipeline, sessions, stats, transcript, turns, usage
from gateway.route import Route

ROUTES: tuple[Route, ...] = (
    *sessions.ROUTES,
    *transcript.ROUTES,
    *turns.ROUTES,
    *log.ROUTES,
    *usage.ROUTES,
    *stats.ROUTES,
    *audit.ROUTES,
    *dead_letters.ROUTES,
    *pipeline.ROUTES,
)
