"""Asks the API server who comes to the authority and what he may have; what that means, see node_rule."""

from __future__ import annotations

from mesh.controlplane import node_rule
from mesh.identity.authority import AuthorityError
from mesh.kube.api.requests import ApiFailure, Object, Requests

REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"


class Gate:
    """Nothing is remembered: a pod that was deleted a moment ago gets nothing more."""

    def __init__(self, requests: Requests, namespace: str, trust_domain: str) -> None:
        self._requests, self._namespace, self._trust_domain = requests, namespace, trust_domain

    async def authorise(self, token: str, node: str, name: str) -> None:
        """`name`: the SPIFFE id that is asked for, or "". Raises AuthorityError."""
        try:
            await self._authorise(token, node, name)
        except ApiFailure as failure:
            raise AuthorityError(f"who asks cannot be known: {failure}", "unavailable") from None

    async def _authorise(self, token: str, node: str, name: str) -> None:
        review = await self._requests.create(REVIEWS, node_rule.question(token))
        caller = node_rule.caller(review, self._namespace, node)
        node_rule.check_alive(caller, await self._requests.find(caller.path))
        if name:
            who = node_rule.wanted(name, self._trust_domain)
            found = await self._requests.ask("GET", node_rule.pods_path(who, node))
            node_rule.check_bound(who, node, _items(found, who.namespace))


def _items(found: Object, namespace: str) -> list[Object]:
    return [item for item in found.get("items") or () if item["metadata"].get("namespace") == namespace]
