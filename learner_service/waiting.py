"""Waiting for an event, but not for ever."""

import asyncio


async def comes_within(event: asyncio.Event, seconds: float) -> bool:
    """Waits for an event and returns True, or False when it has not come after some seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
