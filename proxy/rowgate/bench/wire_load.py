"""The load of ``wire_client``, driven from here."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import IO, Final, Literal

from rowgate.bench.errors import BenchError
from rowgate.bench.load import CpuMeter, Endpoint, Load, Login
from rowgate.bench.wire_client import GO, READY, Order

# A client process that does not end this long (seconds) after its work is killed.
_GRACE: Final = 30


@dataclass(frozen=True, slots=True)
class WireLoad:
    """``texts``: templates by Zipf's law from ``clients`` clients; ``read``: one client, ``rows`` rows a time."""

    kind: Literal["texts", "read"]
    clients: int = 1
    accounts: int = 1
    exponent: float = 1.0
    statement: str = ""
    rows: int = 0

    def run(self, endpoint: Endpoint, login: Login, seconds: int, seed: int, cpu: CpuMeter) -> Load:
        """Run it; connecting and leaving are not measured."""
        order = Order(
            kind=self.kind,
            host=endpoint.host,
            port=endpoint.port,
            tls=endpoint.tls,
            user=login.user,
            database=login.database,
            seconds=seconds,
            seed=seed,
            clients=self.clients,
            accounts=self.accounts,
            exponent=self.exponent,
            statement=self.statement,
            rows=self.rows,
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "rowgate.bench.wire_client"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise BenchError("the load's process has no pipes")
        try:
            _tell(stdin, json.dumps(asdict(order)))
            _expect(process, stdout.readline(), READY)
            before = cpu()
            _tell(stdin, GO)
            line = stdout.readline()
            after = cpu()
            if not line:
                raise BenchError(_words(process))
            process.communicate(timeout=_GRACE)
        except BrokenPipeError:
            raise BenchError(_words(process)) from None
        except subprocess.TimeoutExpired:
            raise BenchError(f"the load's process has not ended within {_GRACE} s") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        result = json.loads(line)
        used = after - before if before is not None and after is not None else None
        is_read = self.kind == "read"  # a handful of reads has a median, and no 99th percentile
        return Load(result["units"], result["seconds"], used, result["p50"], None if is_read else result["p99"])


def _tell(stdin: IO[str], text: str) -> None:
    stdin.write(text + "\n")
    stdin.flush()


def _expect(process: subprocess.Popen[str], line: str, word: str) -> None:
    if line.strip() != word:
        raise BenchError(_words(process))


def _words(process: subprocess.Popen[str]) -> str:
    _, errors = process.communicate(timeout=_GRACE)
    return errors.strip() or f"the load's process ended with status {process.returncode}"
