"""doors: TCP doors between clients and servers of this machine, which can be made slow, held, and torn.

The program is one process of its own, so that what it forwards does not wait for the test that directs it: its
argument is a JSON list of [port, port of the server], and each line that it reads is a JSON object that says what
happens at a door. It ends with its standard input. Doors is its handle.
"""

import asyncio
import json
import os
import subprocess
import sys

PIECE = 65536
TEAR_SECONDS = 0.2  # within which something comes by, or it is torn idle


class Doors:
    """doors: pairs of ports, our own and the server's. A door is named by our own port."""

    def __init__(self, doors):
        self.process = subprocess.Popen([sys.executable, __file__, json.dumps(doors)], stdin=subprocess.PIPE,
                                        text=True, start_new_session=True)

    def cut(self, port, seconds=0):
        """Ends every connection in the middle of what it carries; takes no new one for so long."""
        self.tell(port, "cut", seconds)

    def slow(self, port, delay, rate):
        """Every piece waits for so many seconds; so many bytes a second."""
        self.tell(port, "slow", delay, rate)

    def hold(self, port):
        """Nothing goes through, and nothing is said of it."""
        self.tell(port, "hold")

    def heal(self, port):
        self.tell(port, "heal")

    def tell(self, port, what, *how):
        self.process.stdin.write(json.dumps([port, what, *how]) + "\n")
        self.process.stdin.flush()

    def close(self):
        self.process.kill()
        self.process.wait()


class Door:
    def __init__(self, target):
        self.target, self.transports = target, set()
        self.delay, self.rate, self.torn, self.shut_until = 0, None, False, 0
        self.free = asyncio.Event()
        self.free.set()

    async def enter(self, reader, writer):
        if asyncio.get_running_loop().time() < self.shut_until:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer.transport, far_writer.transport}
        self.transports |= both
        await asyncio.gather(self.carry(reader, far_writer), self.carry(far_reader, writer))
        self.transports -= both

    async def carry(self, reader, writer):
        try:
            while data := await reader.read(PIECE):
                await self.free.wait()
                if self.torn:
                    writer.write(data[:len(data) // 2])
                    self.end()
                    return
                if self.delay:
                    await asyncio.sleep(self.delay + len(data) / self.rate)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    def end(self):
        self.torn = False
        for transport in self.transports:
            transport.abort()

    def tell(self, what, *how):
        loop = asyncio.get_running_loop()
        if what == "cut":
            self.torn, self.shut_until = True, loop.time() + how[0]
            loop.call_later(TEAR_SECONDS, lambda: self.torn and self.end())
        elif what == "slow":
            self.delay, self.rate = how
        elif what == "hold":
            self.free.clear()
        elif what == "heal":
            self.delay, self.shut_until = 0, 0
            self.free.set()


async def main(pairs):
    doors = {port: Door(target) for port, target in pairs}
    for port, door in doors.items():
        await asyncio.start_server(door.enter, "127.0.0.1", port)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        port, *order = json.loads(line)
        doors[port].tell(*order)
    os._exit(0)  # what is still being carried is of no interest


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
