"""Carrying out one attempt: the user's program, or a child process for the kinds that move records."""

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from connectors.runners import processes
from connectors.runners.logs import Output, RunLog
from connectors.runners.offer import Ended, Offer
from connectors.runners.progress import Progress, ProgressFile
from connectors.runners.secrets import Resolved, resolve
from connectors.runners.settings import RunnerSettings
from connectors.runners.spares import Spares
from connectors.sdk.errors import ConnectorError, InvalidSpec

_OWN_SETTINGS = "FLEXCORE_"
_ERROR_CHARS_MAX = 4_000
_LISTEN_S = 1.0
_RESULT_BYTES_MAX = 16 << 20
_HANDED_OVER_BYTES_MAX = 200_000


@dataclass(slots=True)
class Execution:
    """One attempt. :meth:`run` returns how it ended, whatever happens; :meth:`kill` makes that soon."""

    offer: Offer
    token: str
    settings: RunnerSettings
    log: RunLog
    spares: Spares
    progress: Progress = field(default_factory=Progress)
    _said: ProgressFile | None = None
    _guarded: processes.Guarded | None = None
    _killed: str | None = None
    _handed_back: bool = False
    _told: Ended | None = None

    async def run(self) -> Ended:
        """Start the program, pass on its output, wait for its end; its whole process tree is gone then."""
        offer, limit_ms = self.offer, self.offer.timeout_ms
        try:
            secrets = resolve(offer.spec, self.settings.environ, self.settings.project_dir, offer.step)
            output = Output(self._log_line, secrets.mask)
            listening = asyncio.create_task(self._listen(output))
            try:
                async with asyncio.timeout(None if limit_ms is None else limit_ms / 1000):
                    ended = await self._program(secrets, output)
            except TimeoutError:
                await self._end_program()
                ended = Ended(
                    error=f"the attempt took longer than its timeout of {(limit_ms or 0) / 1000:g} s"
                )
            finally:
                listening.cancel()
        except ConnectorError as error:
            return Ended(error=str(error), retryable=error.retryable)
        except OSError as error:
            return Ended(error=f"the step's program cannot be started: {error}")
        if self._killed is not None:
            ended = Ended(error=self._killed, handed_back=self._handed_back)
        return _masked(ended, secrets, output.tail)

    async def kill(self, reason: str) -> None:
        """End the whole process tree: SIGTERM, after the grace SIGKILL."""
        self._killed = self._killed or reason
        await self._end_program()

    async def hand_back(self, reason: str) -> None:
        """End it as :meth:`kill` does, for no fault of its own: another attempt shall take its place at once."""
        self._handed_back = self._killed is None
        await self.kill(reason)

    def look(self) -> None:
        """Take into ``progress`` what the program has said by now."""
        if self._said is not None:
            self._said.look()

    def stale(self, why: str) -> None:
        """Say in the step's log that what this attempt did counts for nothing."""
        self._log_line("stderr", f"attempt {self.offer.attempt} is stale, its result is not taken: {why}")

    async def _listen(self, output: Output) -> None:
        """End the program when it has printed nothing, and neither said nor moved anything, for as long as it may."""
        limit_ms = self.offer.heartbeat_timeout_ms
        if limit_ms is None:
            return
        heard, at = (0, Progress()), time.monotonic()
        while time.monotonic() - at < limit_ms / 1000:
            await asyncio.sleep(min(_LISTEN_S, limit_ms / 4_000))
            self.look()
            if (said := (output.lines, replace(self.progress))) != heard:
                heard, at = said, time.monotonic()
        await self.kill(f"the attempt was silent for its heartbeat_timeout of {limit_ms / 1000:g} s")

    async def _end_program(self) -> None:
        if self._guarded is not None:
            await self._guarded.kill()

    async def _program(self, secrets: Resolved, output: Output) -> Ended:
        kind = self.offer.kind
        if kind not in {"command", "extract", "transform", "load"}:
            raise InvalidSpec(f"step {self.offer.step} is of kind {kind!r}, which this runner does not know")
        with tempfile.TemporaryDirectory(prefix="flexcore-") as own:
            self._said = ProgressFile(
                Path(own) / "progress.jsonl",
                self.progress,
                counted=kind != "command",
                mask=secrets.mask,
                complain=lambda why: self._log_line("stderr", why),
            )
            try:
                if kind == "command":
                    return await self._command(secrets.spec, output, Path(own) / "output.json")
                return await self._attempt(secrets.spec, output)
            finally:
                self._said.look()

    async def _command(self, spec: Mapping[str, Any], output: Output, handed_over: Path) -> Ended:
        argv = [str(word) for word in spec["argv"]]
        environ = {
            **self._own_environ(),
            **{str(key): str(value) for key, value in (spec.get("env") or {}).items()},
        }
        environ |= {
            "RUN_ID": self.offer.run,
            "RUN_STEP": self.offer.step,
            "RUN_ATTEMPT": str(self.offer.attempt),
            "RUN_INPUT": orjson.dumps(self.offer.input).decode(),
            "RUN_OUTPUT": str(handed_over),
            **self._turn(handed_over.with_name("result.json")),
        }
        folder = self.settings.project_dir
        looked_up = argv[0] if "/" not in argv[0] else str(folder / argv[0])
        if shutil.which(looked_up, path=environ.get("PATH")) is None:
            raise InvalidSpec(
                f"step {self.offer.step} runs {argv[0]!r}, which is no program on the runner's PATH"
            )
        guarded = await processes.start(argv, environ, folder, self.settings.kill_grace_s)
        code = await self._follow(guarded, output, None)
        if code == 0:
            return Ended(output={**results_of(handed_over), "exit_code": 0, "tail": output.tail})
        last = output.tail.rpartition("\n")[2]
        how = f"exit code {code}" if code < 128 else f"killed by signal {code - 128}"
        return Ended(error=f"{argv[0]}: {how}{f': {last}' if last else ''}")

    async def _attempt(self, spec: Mapping[str, Any], output: Output) -> Ended:
        code = await self._follow(await self.spares.take(), output, orjson.dumps(self._task(spec)) + b"\n")
        if self._told is not None:
            return self._told
        last = output.tail.rpartition("\n")[2]
        how = f"exit code {code}" if code < 128 else f"killed by signal {code - 128}"
        return Ended(
            error=f"the attempt's process ended without a result ({how}){f': {last}' if last else ''}"
        )

    async def _follow(self, guarded: processes.Guarded, output: Output, task: bytes | None) -> int:
        self._guarded = guarded
        process = guarded.process
        if self._killed is not None:
            await guarded.kill()
        if task is not None and process.stdin is not None:
            with contextlib.suppress(ConnectionError):
                process.stdin.write(task)
                await process.stdin.drain()
            process.stdin.close()

        async def told(line: bytes) -> None:
            await (output.take("stdout", line) if task is None else self._hear(line))

        async def complained(line: bytes) -> None:
            await output.take("stderr", line)

        assert process.stdout is not None
        assert process.stderr is not None
        await asyncio.gather(
            processes.each_line(process.stdout, told, _RESULT_BYTES_MAX),
            processes.each_line(process.stderr, complained),
        )
        return await guarded.wait()

    async def _hear(self, line: bytes) -> None:
        message = orjson.loads(line)
        self.progress.set(message["counts"])
        if "result" in message:
            self._told = Ended(output=message["result"])
        elif "failure" in message:
            failure = message["failure"]
            self._told = Ended(error=failure["error"], retryable=failure["retryable"])

    def _task(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        offer, settings = self.offer, self.settings
        return {
            "tenant": offer.tenant,
            "pipeline": offer.pipeline,
            "step": offer.step,
            "run": offer.run,
            "attempt": offer.attempt,
            "token": self.token,
            "kind": offer.kind,
            "spec": spec,
            "upstream": offer.upstream,
            "full_refresh": offer.full_refresh,
            "redrive": offer.redrive,
            "kafka": dict(settings.kafka),
            "cluster": settings.cluster,
            "prefix": settings.prefix,
            "shards": settings.shards,
            "registry_url": settings.registry_url,
            "project_dir": str(settings.project_dir.resolve()),
            "plugins_dir": str(settings.plugins_dir.resolve()),
            "environ": self._own_environ(),
        }

    def _own_environ(self) -> dict[str, str]:
        """Return the environment of whatever the attempt starts: without the platform's settings, with its own files."""
        saved = self.offer.checkpoint
        return {
            **for_programs(self.settings.environ),
            "RUN_PROGRESS": "" if self._said is None else str(self._said.path),
            "RUN_CHECKPOINT": "" if saved is None else orjson.dumps(saved).decode(),
        }

    def _turn(self, file: Path) -> dict[str, str]:
        """Return what tells a program which item or turn it is; what the turn before handed over is in ``file`` then."""
        told = {} if self.offer.index is None else {"RUN_INDEX": str(self.offer.index)}
        if self.offer.result is not None:
            file.write_bytes(orjson.dumps(self.offer.result))
            told["RUN_RESULT"] = str(file)
        return told

    def _log_line(self, stream: str, line: str) -> None:
        offer = self.offer
        self.log.write(offer.tenant, offer.run, offer.step, offer.attempt, stream, line)


def results_of(file: Path) -> dict[str, Any]:
    """Return what a program has written to ``RUN_OUTPUT``; nothing, if it has not. Raise InvalidSpec for no JSON object."""
    if not file.exists():
        return {}
    with file.open("rb") as handed_over:
        text = handed_over.read(_HANDED_OVER_BYTES_MAX + 1)
    if len(text) > _HANDED_OVER_BYTES_MAX:
        raise InvalidSpec(f"the program wrote more than {_HANDED_OVER_BYTES_MAX} bytes to RUN_OUTPUT")
    try:
        results = orjson.loads(text)
    except ValueError:
        results = None
    if not isinstance(results, dict):
        raise InvalidSpec("the program wrote something to RUN_OUTPUT that is no JSON object")
    return results


def for_programs(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the platform's own settings."""
    return {key: value for key, value in environ.items() if not key.startswith(_OWN_SETTINGS)}


def _masked(ended: Ended, secrets: Resolved, tail: str) -> Ended:
    output = ended.output
    if output is not None and secrets.secrets:
        output = orjson.loads(secrets.mask(orjson.dumps(output).decode()))
    error = secrets.mask(ended.error)[:_ERROR_CHARS_MAX]
    return Ended(output, error, ended.retryable, tail, ended.handed_back)
