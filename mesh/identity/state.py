"""An authority's files as values: whom to believe, and what signs.

Read again when a file changed; what cannot be used is an error that names the file, and the last good state stays what
it was. Writing is for whoever holds the files' lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import msgspec

from mesh.identity import certificate, denial, issue, rotation
from mesh.identity.authority import AuthorityError, Denial, Root, RootState, Trust
from mesh.identity.certificate import BadCertificate
from mesh.identity.files import AUTHORITY, DENIED, NODES, VERSION, Files, StoredAuthority, StoredDenial, StoredRoot
from mesh.identity.handed import Handed
from mesh.identity.issue import Issuer
from mesh.identity.spiffe import BadId


class State:
    def __init__(self, files: Files, trust_domain: str, clock: Callable[[], float]) -> None:
        self._files, self._trust_domain, self._clock = files, trust_domain, clock
        self._stamp: object = None
        self._stored = StoredAuthority(version=VERSION, trust_domain=trust_domain, generation=0, roots=())
        self._trust: Trust | None = None
        self._issuer: Issuer | None = None

    def read(self) -> Trust | None:
        """As the files say now; None when there never was an authority. Raises AuthorityError."""
        stamp = (self._files.stamp(AUTHORITY), self._files.stamp(DENIED))
        if stamp == self._stamp:
            return self._trust
        stored, denials = self._files.authority(), self._files.denials()
        if stored is None:
            self._refuse_loss()
            return None
        roots, issuer = self._decode(stored)
        self._trust = Trust(generation=stored.generation, roots=roots, denied=tuple(map(self._denial, denials)))
        self._stored, self._issuer, self._stamp = stored, issuer, stamp
        return self._trust

    def get(self) -> Trust:
        """As read; AuthorityError when there is none."""
        trust = self.read()
        if trust is None:
            raise AuthorityError(f"{self._files.where(AUTHORITY)} is not there", "io")
        return trust

    @property
    def issuer(self) -> Issuer:
        """Who signs, as last read."""
        assert self._issuer is not None
        return self._issuer

    def _decode(self, stored: StoredAuthority) -> tuple[tuple[Root, ...], Issuer]:
        if stored.trust_domain != self._trust_domain:
            why = f"is of the trust domain {stored.trust_domain}, and this agent of {self._trust_domain}"
            raise self._files.damaged(AUTHORITY, why)
        try:
            roots = tuple(map(_root, stored.roots))
            if why := rotation.problem(roots):
                raise BadCertificate(why)
            issuer = _issuer(next(each for each in stored.roots if each.state is RootState.ISSUING))
        except BadCertificate as error:
            raise self._files.damaged(AUTHORITY, f"cannot be used: {error}") from None
        return roots, issuer

    def _refuse_loss(self) -> None:
        """A directory that had an authority must not get another one by itself."""
        holders = [record.node for record in self._files.records() if rotation.matters(record, self._clock())]
        if self._trust is not None or holders:
            who = ", ".join(holders) or "this node"
            rest = self._files.where(NODES)
            why = f"is gone, and {who} may have certificates from it (remove {rest} as well to start over)"
            raise self._files.damaged(AUTHORITY, why)

    # --- writing

    def add_root(self, state: RootState) -> Trust:
        """A new root; the first of all when it issues."""
        key = issue.new_key()
        text = certificate.pem(issue.make_root(self._trust_domain, key, self._clock()))
        generation = self._stored.generation + 1
        new = StoredRoot(state=state, since=generation, certificate=text, key=certificate.key_text(key))
        return self._write(generation, (*self._stored.roots, new))

    def hand_in(self, handed: Handed, state: RootState) -> Trust:
        """The same with a root that somebody else made; one that is there gets the key and chain that it now has."""
        new = handed.stored(state, self._stored.generation + 1)
        if all(new.certificate != root.certificate for root in self._stored.roots):
            return self._write(new.since, (*self._stored.roots, new))
        roots = (_renewed(root, new) for root in self._stored.roots)
        return self._write(self._stored.generation, roots)

    def advance(self) -> Trust:
        """The next step of the rotation."""
        trust = self.get()
        generation = trust.generation + 1
        after = {root.id: root for root in rotation.advance(trust.roots, generation)}
        return self._write(generation, _kept(self._stored.roots, after))

    def _write(self, generation: int, roots: Iterable[StoredRoot]) -> Trust:
        self._files.write_authority(msgspec.structs.replace(self._stored, generation=generation, roots=tuple(roots)))
        return self.get()

    # --- denials

    def named(self, what: str) -> str:
        """mesh.identity.denial.named. Raises AuthorityError."""
        try:
            return denial.named(what, self._trust_domain)
        except BadId as error:
            raise AuthorityError(str(error), "refused") from None

    def _denial(self, stored: StoredDenial) -> Denial:
        try:
            what = denial.named(stored.what, self._trust_domain)
        except BadId as error:
            raise self._files.damaged(DENIED, f"cannot be used: {error}") from None
        return Denial(what=what, until=stored.until.timestamp(), reason=stored.reason)

    def replace_denial(self, name: str, new: Denial | None) -> bool:
        """Instead of what is said of that name; whether anything was. What has ended goes as well."""
        now = self._clock()
        before = tuple(map(self._denial, self._files.denials()))
        others = tuple(each for each in denial.active(before, now) if each.what != name)
        after = (*others, new) if new else others
        self._files.write_denials(tuple(map(_stored, after)))
        return any(each.what == name for each in before)


def _renewed(root: StoredRoot, new: StoredRoot) -> StoredRoot:
    same = root.certificate == new.certificate
    return msgspec.structs.replace(root, key=new.key, chain=new.chain) if same else root


def _issuer(stored: StoredRoot) -> Issuer:
    key, chain = certificate.key_of(stored.key), tuple(map(certificate.der, stored.chain))
    issuer = Issuer(certificate=chain[0] if chain else certificate.der(stored.certificate), key=key, chain=chain)
    if not certificate.same_key(issuer.certificate, key):
        raise BadCertificate("the key of the root that issues is not the one in its certificate")
    return issuer


def _kept(stored: Iterable[StoredRoot], after: dict[str, Root]) -> Iterable[StoredRoot]:
    for each in stored:
        root = after.get(certificate.fingerprint(certificate.der(each.certificate)))
        if root is not None:
            yield msgspec.structs.replace(each, state=root.state, since=root.since)


def _root(stored: StoredRoot) -> Root:
    der = certificate.der(stored.certificate)
    facts = certificate.read_root(der)
    return Root(id=facts.root, certificate=der, state=stored.state, not_after=facts.not_after, since=stored.since)


def _stored(denial: Denial) -> StoredDenial:
    return StoredDenial(what=denial.what, until=datetime.fromtimestamp(denial.until, UTC), reason=denial.reason)
