"""Signers, grants, URL maps and options."""

from __future__ import annotations

import inspect
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from attrs import evolve

from fsspec_osspresigned import OSSPresignedFileSystem
from fsspec_osspresigned.errors import (
    AccessDeniedError,
    ConfigurationError,
    InvalidRequestError,
    NotCoveredError,
    SignatureMismatchError,
    SignerError,
    SignerUnavailableError,
    TooLargeError,
)
from fsspec_osspresigned.owner.grants import GrantTerms, sign_grant
from fsspec_osspresigned.owner.sign import Cut, Order, forget, sign
from fsspec_osspresigned.signers.base import MultipartGrant, Signer
from fsspec_osspresigned.signers.keys import environment_credentials
from fsspec_osspresigned.signing import Endpoint
from fsspec_osspresigned.url_map.parser import parse

from ..network import Faults
from ..signers import (
    BadSigner,
    GrantingSigner,
    KeepingSigner,
    LaxSigner,
    ManySigner,
    MiscountingSigner,
    UserSigner,
    http_options,
    key_signer,
)
from ..store import BUCKETS, DOMAIN, HOST, KEY, REGION
from ..world import Broken, World
from .steps import LARGE, SMALL, NamedStep, Steps


class SignerSteps(Steps):
    """Signers, grants, URL maps and options."""

    @property
    def of_signers(self) -> tuple[NamedStep, ...]:
        return (
            ("a signer with another number of answers", self._miscounted),
            ("a signer with large calls", self._large_calls),
            ("a signer that grants some ways", self._granted),
            ("a grant that does not suffice", self._insufficient),
            ("a signer that names objects", self._named),
            ("a signer that is away", self._signer_away),
            ("a busy signer", self._busy_signer),
            ("a signer that refuses", self._refusing_signers),
            ("a signer that refuses one request", self._refused_items),
            ("a signer whose URL has expired", self._invalidated),
            ("advice about a signer", self._advised),
            ("a signer that signs wrongly", self._bad_signers),
            ("a signer that hides an object", self._hidden),
            ("a signer that signs no lock", self._unlocked),
            ("a signer that signs no deletions", self._undeleted),
            ("URLs of a map that expire", self._expired),
            ("a URL map of parts", self._by_map),
            ("a map and wrong paths", self._misspelt),
            ("a domain of the owner", self._own_domain),
            ("maps that are damaged", self._bad_maps),
            ("grants that are damaged", self._bad_grants),
            ("keys that are missing", self._missing_keys),
            ("keys of the environment", self._environment),
            ("a grant of few parts", self._few_parts),
            ("options that are wrong or of others", self._wrong_options),
            ("files that are no map or grant", self._wrong_files),
        )

    def _miscounted(self) -> None:
        """A signer that gives too few or too many answers is no reason to send one."""
        for more in (-1, 1):
            for is_remote in (False, True):
                signer = MiscountingSigner(self.network.world, more, remote=is_remote)
                self._refusal(signer, SignerError, f"answered {1 + more} requests to 1")

    def _large_calls(self) -> None:
        """A signer that finds a call too large is asked for less, but for no less than one."""
        world: World = self.network.world
        fs = self._lasting(**http_options(world), overwrite=True)
        objects = dict(self._data(f"fewer{number}", 17) for number in range(8))
        world.signer_replies = [(413, {})]
        fs.pipe(objects)
        for path, data in objects.items():
            self._is(path, data)
        path, data = self._data("too large to sign", 17)
        world.signer_replies = [(413, {})] * 9
        failed = fs.pipe({path: data}, on_error="return")
        left, world.signer_replies = len(world.signer_replies), []
        if not isinstance(failed[0], SignerError) or left < 8:
            raise Broken(f"a signer was asked {9 - left} times, and {failed}")

    def _granted(self) -> None:
        """An object is uploaded only in a way that its signer grants."""
        parts = ["InitiateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]
        for facts, size, actions in (
            ({"single": False}, SMALL, parts),
            ({"multipart": None}, LARGE, ["PutObject"]),
            ({"expires_at": 1.0}, SMALL, []),
        ):
            signer = GrantingSigner(self.network.world, **facts)
            fs = self._like(signer=signer, signer_token=None, overwrite=True)
            path, data = self._data(f"granted {[*facts]}", size)
            first = len(self.network.events)
            try:
                fs.pipe_file(path, data)
            except NotCoveredError as error:
                if actions or "its presigned URL expired at" not in str(error):
                    raise Broken(f"with a grant of {facts}: {error!r}") from error
            self._is(path, data if actions else None)
            sent = [str(event.action) for event in self.network.events[first:]]
            if sent != actions:
                raise Broken(f"with a grant of {facts}, the client sent {sent}")

    def _named(self) -> None:
        """The receipt has what the signer says about the object, and the reply does not."""
        known = {"location": "https://share.example/1", "assumed_etag": '"1"'}
        for given in ({"location": known["location"]}, known):
            signer = BadSigner(self.network.world, **given)
            path, data = self._data("named", SMALL)
            fs = self._like(signer=signer, signer_token=None, overwrite=True)
            self.network.faults = Faults(no_proof=float(given is known))
            receipt = fs.pipe_file(path, data, checksum="none")
            self.network.faults = Faults()
            self._is(path, data)
            is_named = receipt.location == fs.url(path) == known["location"]
            if not is_named or (receipt.etag == "1") != (given is known):
                raise Broken(
                    f"a signer has named {path} in {given}: {receipt.as_dict()}"
                )

    def _signer_away(self) -> None:
        """If a signer cannot be reached, the error names its host."""
        world: World = self.network.world
        fs = self._like(retries=0, **http_options(world))
        path, data = self._data("unsigned", SMALL)
        world.signer_replies = [(0, {})] * 9
        try:
            fs.pipe_file(path, data)
        except SignerUnavailableError as error:
            if "the connection to signer.example failed" not in str(error):
                raise Broken(f"a signer that is away gives {error!r}") from error
        else:
            raise Broken(f"{path} is stored without a signature")
        world.signer_replies = []
        self._is(path, None)

    def _busy_signer(self) -> None:
        """A signer that is down for a moment is asked again."""
        world: World = self.network.world
        fs = self._lasting(retries=2, **http_options(world))
        for status in (429, 500):
            path, data = self._data(f"signed after {status}", SMALL)
            world.signer_replies = [(status, {})] * 2
            fs.pipe_file(path, data)
            self._is(path, data)
            if world.signer_replies:
                raise Broken(f"a signer did not say {status} twice")

    def _refusing_signers(self) -> None:
        """A refused signature is not asked for again, and each error has the reason."""
        world: World = self.network.world
        problem = {"code": "forbidden", "detail": "closed on Sundays"}
        for name, options in (
            ("service", http_options(world)),
            ("user", {"signer": ManySigner(world), "signer_token": None}),
        ):
            fs = self._lasting(**options)
            objects = dict(self._data(f"{name}{number}", 17) for number in range(3))
            world.signer_replies = [(403, problem)] * 9
            failed = fs.pipe(objects, on_error="return")
            asked, world.signer_replies = 9 - len(world.signer_replies), []
            for path, error in zip(objects, failed, strict=True):
                self._is(path, None)
                named = isinstance(error, SignerError) and error.filename
                if named != path or "closed on Sundays" not in str(error):
                    raise Broken(f"the signer refuses {path}, but {error!r}")
            if asked > len(objects):
                raise Broken(f"a {name} that refused was asked {asked} times")

    def _refused_items(self) -> None:
        """A refused request is not sent, and does not stop the requests after it."""
        world: World = self.network.world
        # No other filesystem has this window, so its client has written nothing yet: a
        # client that may not look answers from what it has written.
        given: Any = {**http_options(world), "max_concurrency": 3}
        fs = self._lasting(**given, if_unverifiable="error", overwrite=True)
        problem = {"code": "forbidden", "detail": "not this one", "status": 403}
        for size in (SMALL, LARGE):
            ungranted = {"code": "action_not_granted", "status": 403}
            world.signer_replies = [(200, {"results": [{"error": ungranted}]})]
            try:
                fs.pipe_file(*self._data(f"ungranted {size}", size))
            except NotCoveredError as error:
                is_told = "objects above multipart_threshold=" in str(error)
                if is_told != (size == LARGE):
                    raise Broken(f"{size} bytes are not granted: {error!r}") from error
            else:
                raise Broken(f"{size} bytes are stored without permission")
        refused, others = {"results": [{"error": problem}]}, f"{self.root}/put"
        for what in ("first", "second"):
            path, data = self._data(f"{what} item", SMALL)
            for verb, *given in (
                (fs.pipe_file, path, data),
                (fs.info, others),
                (fs.cat_file, others),
            ):
                world.signer_replies = [(200, refused)] * 3
                with suppress(PermissionError):
                    verb(*given)
                    raise Broken(f"{verb.__name__} succeeds, but was refused")
                world.signer_replies = []
                verb(*given)
            self._is(path, data)

    def _invalidated(self) -> None:
        """A signer that keeps its URLs is told which one has expired."""
        signer = UserSigner(self.network.world)
        fs = self._lasting(signer=signer, signer_token=None, overwrite=True)
        path, data = self._data("invalidated", SMALL)
        self.network.met.clear()
        self.network.fates = ("expired",)
        fs.pipe_file(path, data)
        self.network.fates = ()
        self._is(path, data)
        if signer.invalidated != ["PUT"]:
            raise Broken(f"one URL has expired, but told of {signer.invalidated}")

    def _missing_keys(self) -> None:
        """If keys are missing, the error names both variables, and not their values."""
        names = ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET")
        for missing in (names, names[:1], names[1:]):
            kept = {name: os.environ.pop(name) for name in missing}
            try:
                key_signer()
            except ConfigurationError as error:
                told = [name for name in names if name in str(error)]
                if told != [*missing] or any(v in str(error) for v in kept.values()):
                    raise Broken(f"without {missing}: {error!r}") from error
            else:
                raise Broken(f"a signer has keys without {missing}")
            finally:
                os.environ.update(kept)

    def _environment(self) -> None:
        """The region is that of the endpoint; only a temporary key has an end."""
        path, data = self._data("of the environment", SMALL)
        given = {"signer": "keys", "signer_token": None, "overwrite": True}
        changes: Any = {"OSS_REGION": None, "OSS_ENDPOINT": HOST}
        changes["OSS_SESSION_EXPIRATION"] = "some day"
        kept = {name: os.environ.get(name) for name in changes}
        _set_environment(changes)
        self._like(**given, region=None).pipe_file(path, data)
        self._is(path, data)
        os.environ["OSS_ENDPOINT"] = "https://oss.example.com"
        with self._refused_with("does not tell its region", "an endpoint"):
            self._like(**given, region=None, signature_version="v4")
        os.environ["OSS_ENDPOINT"] = HOST
        time.sleep(2)  # a signature is kept for a second
        os.environ["OSS_SESSION_TOKEN"] = "temporary"
        with self._refused_with("OSS_SESSION_EXPIRATION", "a key with a wrong end"):
            self._like(**given).pipe_file(path, b"")
        del os.environ["OSS_SESSION_TOKEN"]
        _set_environment(kept)
        time.sleep(2)

    def _advised(self) -> None:
        """The error of a refused call says what to do, and repeats the signer's reason."""
        world: World = self.network.world
        fs = self._like(**http_options(world), if_unverifiable="error")
        path = f"{self.root}/advised"
        for status, detail, words in (
            (401, "the token has expired", "ask the owner for a new one"),
            (401, "a wrong token", "check signer_token="),
            (404, "none", "check its URL"),
        ):
            world.signer_replies = [(status, {"detail": detail})] * 9
            try:
                fs.pipe_file(path, b"x")
            except SignerError as error:
                if words not in str(error) or detail not in str(error):
                    raise Broken(
                        f"after {detail!r}, a signer gives {error!r}"
                    ) from error
            else:
                raise Broken(f"{path} is stored, although the signer said {detail!r}")
        problem = {
            "code": "forbidden",
            "detail": "no reading on Sundays",
            "status": 403,
        }
        refused = {"results": [{"error": problem}]}
        world.signer_replies = [(200, refused)] * 3
        try:
            fs.info(path)
        except PermissionError as error:
            if problem["detail"] not in str(error):
                raise Broken(f"a signer refuses a look, but {error!r}") from error
        else:
            raise Broken(f"{path} was looked at without a signature")
        world.signer_replies = []

    def _bad_signers(self) -> None:
        """The error of a refused request has its type, and names the cause."""
        access, world = environment_credentials(), self.network.world
        other = evolve(access, access_key_secret="other")
        unknown = evolve(access, access_key_id="LTAIunknown")
        code = "SignatureDoesNotMatch"
        for signer, kind, words in (
            (key_signer(credentials=lambda: other), SignatureMismatchError, code),
            (key_signer(credentials=lambda: unknown), AccessDeniedError, "not know"),
            (key_signer(region="us-west-1"), InvalidRequestError, "us-west-1"),
            (BadSigner(world, method="POST"), SignerError, "signed POST"),
            (BadSigner(world, headers={}), NotCoveredError, "x-oss-storage-class"),
        ):
            self._refusal(signer, kind, words)
        kept = os.environ["OSS_ACCESS_KEY_ID"]
        os.environ["OSS_ACCESS_KEY_ID"] = "LTAIunknown"
        self._refusal("keys", AccessDeniedError, "not know")
        os.environ["OSS_ACCESS_KEY_ID"] = kept
        time.sleep(2)  # a signature is kept for a second
        self.network.adds = (b"x-oss-meta-added: 1",)
        words = "x-oss-meta-added arrived and was not sent"
        self._refusal(key_signer(), SignatureMismatchError, words)
        self.network.adds = ()

    def _refusal(self, signer: Signer | str, kind: type[OSError], words: str) -> None:
        path, data = self._data("signed wrongly", SMALL)
        fs = self._like(signer=signer, signer_token=None, overwrite=True)
        try:
            fs.pipe_file(path, data, storage_class="IA")
        except kind as error:
            is_own = signer == "keys"  # otherwise the owner is somebody else
            if words not in str(error) or (is_own and "owner" in str(error)):
                raise Broken(f"the error of {words!r} is {error!r}") from error
        else:
            raise Broken(f"{path} is stored in spite of {words!r}")
        self._is(path, None)

    def _insufficient(self) -> None:
        """If a grant and the options do not fit, nothing is sent."""
        for grant, options, words in (
            (MultipartGrant(completes=False), {"receipts": None}, "receipts="),
            (MultipartGrant(upload_id="0"), {"storage_class": "IA"}, "cannot be set"),
        ):
            signer = GrantingSigner(self.network.world, single=False, multipart=grant)
            given = {"signer": signer, "signer_token": None, "overwrite": True}
            path, data = self._data("insufficient", SMALL)
            with self._refused_with(words, f"{grant} and {options}"):
                self._like(**given, **options).pipe_file(path, data)

    def _few_parts(self) -> None:
        """A stream that needs more parts than are granted is not published."""
        for parts in (2, 3):
            given = MultipartGrant(max_parts=parts)
            signer = GrantingSigner(self.network.world, single=False, multipart=given)
            fs = self._like(signer=signer, signer_token=None, overwrite=True)
            path, data = self._data(f"{parts} parts", LARGE)
            try:
                with fs.open(path, "wb") as file:
                    file.write(data)
            except TooLargeError as error:
                if parts == 3:
                    raise Broken(f"{parts} parts suffice, but {error!r}") from error
            self._is(path, data if parts == 3 else None)
            if self._uploads(f"{parts} parts"):
                raise Broken(f"an upload of too few parts is left open: {path}")

    def _undeleted(self) -> None:
        """An own object that must not be deleted is not reported as missing."""
        signer = KeepingSigner(self.network.world)
        given = {"signer": signer, "signer_token": None, "overwrite": True}
        fs = self._like(**given, if_unverifiable="missing")
        path, data = self._data("undeleted", SMALL)
        fs.pipe_file(path, data)
        try:
            fs.rm_file(path)
        except PermissionError as error:
            if isinstance(error, FileNotFoundError):
                raise Broken(f"{path} exists, but {error!r} was raised") from error
        else:
            raise Broken(f"{path} was deleted without a signature")
        self._is(path, data)

    def _hidden(self) -> None:
        """An object that was reported as missing, but exists, is kept; the error says why."""
        first = len(self.ledger.warned)
        signer = UserSigner(self.network.world, looks=False)
        given = {"signer": signer, "signer_token": None, "overwrite": None}
        fs = self._like(**given, if_unverifiable="missing")
        path, data = self._data("hidden", SMALL)
        self._like(signer="keys", signer_token=None).pipe_file(path, data)
        if fs.exists(path):
            raise Broken(f"{path} was found without permission")
        for mode in ("overwrite", "create"):
            try:
                fs.pipe_file(path, b"another content", mode=mode)
            except FileExistsError as error:
                is_hidden = "it was reported as missing" in str(error)
                if is_hidden != (mode == "overwrite"):
                    raise Broken(
                        f"mode {mode} on a hidden object: {error!r}"
                    ) from error
            else:
                raise Broken(f"{path} was replaced because it could not be seen")
            self._is(path, data)
        del self.ledger.warned[first:]

    def _unlocked(self) -> None:
        """If the signer does not forbid to replace a hidden object, a warning says so."""
        signer, first = LaxSigner(self.network.world), len(self.ledger.warned)
        given = {"signer": signer, "signer_token": None, "overwrite": None}
        fs = self._like(**given, if_unverifiable="missing")
        path, data = self._data("unlocked", SMALL)
        fs.exists(path)
        fs.pipe_file(path, data)
        line = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]
        texts = self.ledger.warned[first:]
        del self.ledger.warned[first:]
        self._is(path, data)
        if self.ledger.warned_at != (__file__, line):
            raise Broken(f"a warning of line {line} is at {self.ledger.warned_at}")
        if not any("is not signed" in text for text in texts):
            raise Broken(f"an object without a lock is sent with {texts}")

    def _expired(self) -> None:
        """A URL of a map is used until it expires, and then not even sent."""
        model, clock = self.network.server.model, self.network.server.clock
        if abs(clock() - time.time()) > 1:
            return  # the store would find such short lives over, or not yet begun
        limit = self.fs.storage_options.get("max_concurrency")
        demands, model.demands = model.demands, {}  # a map does not contain the options
        for version in ("v1", "v4"):
            path, data = self._data(f"mapped {version}", SMALL)
            keys = key_signer(version=version, expires_in=4)
            put, get = (sign(keys, [path], Order(method=m)) for m in ("PUT", "GET"))
            bare = {path: put.requests[path].url.reveal()}
            maps: Any = bare, json.loads(get.map_text())
            writes, reads = (
                OSSPresignedFileSystem(
                    url_map=given, max_concurrency=limit, if_unverifiable="error"
                )
                for given in maps
            )
            writes.pipe_file(path, data)
            self._is(path, data)
            if reads.cat_file(path) != data:
                raise Broken(f"{path} of a map has other bytes")
            time.sleep(4)
            first = len(self.network.events)
            for verb, *given in (
                (writes.pipe_file, path, data),
                (reads.cat_file, path),
            ):
                try:
                    verb(*given)
                except NotCoveredError as error:
                    if "expired at" not in f"{error} {error.__cause__}":
                        raise Broken(f"a URL has expired, but {error!r}") from error
                else:
                    raise Broken(f"an expired URL of {path} was used")
            if len(self.network.events) > first:
                raise Broken("a URL that has expired was sent")
        model.demands = demands

    def _by_map(self) -> None:
        """A map with exactly the parts of a file sends it; its owner may complete it."""
        model = self.network.server.model
        demands, model.demands = (
            model.demands,
            {},
        )  # a map does not contain the options
        for is_owners in (False, True):
            path, data = self._data(f"mapped {is_owners}", LARGE)
            cut = Cut(parts=3, part_size=102_400)
            order = Order(cut=cut, owner_completes=is_owners)
            signed = sign(key_signer(), [path], order)
            given: dict[str, Any] = {"url_map": json.loads(signed.map_text())}
            if is_owners:
                given["receipts"] = str(self.place / "receipts")
            limit = self.fs.storage_options.get("max_concurrency")
            fs = OSSPresignedFileSystem(max_concurrency=limit, **given)
            receipt = fs.put_file(self._local("mapped", data), path)
            self._is(path, None if is_owners else data)
            if receipt.status != ("pending" if is_owners else "stored"):
                raise Broken(f"{path} of a map is {receipt.status}")
            if len(self._uploads("mapped")) != is_owners:
                raise Broken("the upload of a map is open, or its parts are gone")
        forget(key_signer(), signed)
        model.demands = demands

    def _misspelt(self) -> None:
        """A map is the same after it was written, and names the path that was meant."""
        meant = [f"{self.root}/{n:03d}/mapped/{n * 37 % 1000:03d}" for n in range(400)]
        signed = sign(key_signer(), meant, Order())
        if parse(signed.map_text()) != signed.entries:
            raise Broken("a map has other entries after it was written")
        fs = OSSPresignedFileSystem(url_map=signed.map_text())
        for path in meant[50::30]:
            for wrong in (f"x{path[1:]}", f"{path[:-1]}x"):
                try:
                    fs.pipe_file(wrong, b"")
                except NotCoveredError as error:
                    if error.nearest[:1] != (path,):
                        near = error.nearest
                        raise Broken(f"{wrong} is near {path}, not {near}") from error
                else:
                    raise Broken(f"{wrong} is in a map of other paths")

    def _grant(self) -> dict[str, Any]:
        terms = GrantTerms(bucket=BUCKETS[0], prefix="", expires_in=86_400)
        facts: dict[str, Any] = {"region": REGION, "now": time.time()}
        signed = sign_grant(KEY, Endpoint.parse(HOST), terms, **facts)
        grant: dict[str, Any] = json.loads(signed.text())
        return grant

    def _own_domain(self) -> None:
        """A grant may be for a domain, but only for the bucket that the user names."""
        network, grant = self.network, self._grant()
        network.server.signatures.add(grant["fields"]["x-oss-signature"])
        grant["url"] = f"https://{DOMAIN}"
        demands, network.server.model.demands = network.server.model.demands, {}
        for given in (grant, json.dumps(grant)):
            with suppress(ConfigurationError):
                OSSPresignedFileSystem(grant=given, allowed_hosts={DOMAIN: BUCKETS[1]})
                raise Broken(f"a grant is for another bucket than that of {DOMAIN}")
            fs = OSSPresignedFileSystem(grant=given, allowed_hosts={DOMAIN: BUCKETS[0]})
            path, data = self._data(f"own {type(given).__name__}", SMALL)
            fs.pipe_file(path, data, metadata={"long": "v" * 1500})
            self._is(path, data)
        network.server.model.demands = demands

    def _bad_maps(self) -> None:
        """A map that cannot work is refused, and its entry is named."""
        path, url = f"{self.root}/wrong", self._url()
        for entry, words in (
            ({"url": url, "part_size": 102_400}, "no parts"),
            ({"url": url, "headers": ["x-oss-meta-a"]}, "must be an object"),
            ({"url": url, "headers": {"x-oss-meta-a?b": "c"}}, "not an HTTP token"),
            ({"url": url, "expires_at": "tomorrow"}, "expires_at"),
            ({"head": url, "headers": {}}, "belong to a url"),
            ({"parts": []}, "must be a list"),
            ({"parts": [{"url": url, "part_number": 0}]}, "part_number"),
            ({"parts": [{"url": url, "part_number": "1"}]}, "part_number"),
            ({"parts": [{"url": url, "part_number": 2}]}, "part 1 is missing"),
            ({"parts": [{"url": url, "part_number": 1}] * 2}, "appears twice"),
        ):
            with self._refused_with(words, f"an entry of {[*entry]}"):
                OSSPresignedFileSystem(url_map={path: entry})
        for document, words in (
            ({"version": 9, "objects": {path: url}}, "only 1 is known"),
            ({"version": 1, "objects": [url]}, "must be an object of paths"),
            ([17], "[0]"),
        ):
            with self._refused_with(words, f"a map of {type(document)}"):
                OSSPresignedFileSystem(url_map=document)

    def _bad_grants(self) -> None:
        """A grant that cannot work is refused, and its field is named."""
        grant = self._grant()
        for name, value in (
            ("policy", None),
            ("x-oss-signature", None),
            ("policy", "?"),
            ("x-oss-credential", "id/20260101"),
            ("x-oss-date", "today"),
        ):
            fields = {n: v for n, v in grant["fields"].items() if n != name}
            if value is not None:
                fields[name] = value
            with self._refused_with(name, f"a grant with {name} {value}"):
                OSSPresignedFileSystem(grant={**grant, "fields": fields})

    def _url(self) -> str:
        path = f"{self.root}/wrong"
        return str(sign(key_signer(), [path], Order()).requests[path].url.reveal())

    def _wrong_options(self) -> None:
        """Options that are wrong, or that others may have given, are refused by name."""
        for given, words in (
            ({"region": "cn hangzhou", "endpoint": HOST}, "is not a region id"),
            ({"region": "oss-cn-hangzhou"}, "without oss-"),
            ({"endpoint": "https://oss.example.com"}, "would get what your keys sign"),
            ({"endpoint": f"http://{HOST}", "allow_http": True}, "in clear text"),
            ({"signer": "module:function"}, "would import code"),
            ({"signer": "https://a.example", "signer_token": "file:/a"}, "is not read"),
            ({"part_size": 1000}, "part_size"),
            ({"allow_http": 1}, "must be true or false"),
            ({"allow_http": "maybe"}, "must be true or false"),
            ({"timeout": -1}, "timeout"),
            ({"retries": -1}, "retries"),
            ({"max_concurrency": 0}, "max_concurrency"),
            ({"signer": None, "url_map": {f"{self.root}/wrong": {}}}, "has no URL"),
            ({"signer": None, "url_map": {"data": self._url()}}, "must be bucket/key"),
        ):
            with self._refused_with(words, str(given)):
                fs = OSSPresignedFileSystem(**{"signer": "keys", **given})
                fs.pipe_file(f"{self.root}/wrong", b"wrong")
        for call in (
            {"mode": "creat"},
            {"checksum": "sha"},
            {"overwrit": True},
            {"metadata": {"a": "1", "A": "2"}},
        ):
            with self._refused_with(*call, str(call)):
                self._like().pipe_file(f"{self.root}/wrong", b"wrong", **call)

    def _wrong_files(self) -> None:
        """If a file is no URL map or grant, the error says what it is."""
        grant = '{"url": "https://a.example", "fields": {"policy": "", "key": ""}}'
        for option, text, words in (
            ("url_map", "neither", "this is neither a URL map nor a grant"),
            ("url_map", grant, "this is a grant: give it as grant="),
            ("url_map", '{"url', "url_map"),
            ("grant", '{"message": "log in first"}', "log in first"),
        ):
            local = self._local(f"wrong {option}", text.encode())
            with self._refused_with(words, f"{option}={text}"):
                OSSPresignedFileSystem(**{option: local})

    @contextmanager
    def _refused_with(self, words: str, given: str) -> Iterator[None]:
        """The block refuses its options with *words*, and sends nothing."""
        first = len(self.network.events)
        try:
            yield
        except ValueError as error:  # also ConfigurationError
            if words not in str(error):
                raise Broken(f"the error of {given} is {error!r}") from error
        else:
            raise Broken(f"{given} were used")
        if len(self.network.events) > first:
            raise Broken(f"requests were sent with {given}")


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
