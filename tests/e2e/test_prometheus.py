"""The real Prometheus scrapes the agent, and Kiali's own queries find the graph of what applications did."""

import urllib.request
from dataclasses import dataclass

import pytest

from tests.kit import apps, kiali
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests, Port
from tests.kit.prometheus import Prometheus, complaints
from tests.kit.seine import Mesh
from tests.kit.wait import eventually

WINDOW_S = 10  # of the queries: ten scrapes
SCRAPES_S = 20.0  # until a rate is known: two scrapes after traffic began, on a machine that is shared


@dataclass
class Shop:
    """client calls web (two nginx) and db (PostgreSQL) through their Services."""

    mesh: Mesh
    prometheus: Prometheus
    client: Pod
    web: list[apps.Nginx]
    db: apps.Postgres
    web_vip: str
    db_vip: str

    @property
    def url(self) -> str:
        port = (self.mesh.run_dir / "admin.port").read_text().strip()
        return f"http://127.0.0.1:{port}/metrics"

    def served(self) -> int:
        return sum(len(nginx.requests()) for nginx in self.web)

    def buy(self) -> None:
        """A little of everything."""
        for _ in range(5):
            assert apps.curl(self.client, f"http://{self.web_vip}/").status == 200
        assert apps.curl(self.client, f"http://{self.web_vip}/files/none").status == 404
        assert apps.psql(self.client, self.db_vip, 5432, "select 1") == "1"


@pytest.fixture(scope="module")
def shop():
    with Lab("prometheus") as lab:
        client, web1, web2, db = (lab.pod(name) for name in ("client", "web-1", "web-2", "db"))
        web, database = [apps.Nginx(web1), apps.Nginx(web2)], apps.Postgres(db)
        manifests = Manifests(lab.directory / "source", lab)
        for pod in (client, web1, web2, db):
            manifests.pod(pod)
        web_vip, _ = manifests.service("web", Port(80, app_protocol="http"), backends=[web1, web2])
        db_vip, _ = manifests.service("db", 5432, backends=[db])
        with Mesh(lab, manifests) as mesh:
            mesh.wait_captured(client, web1, web2, db)
            port = (mesh.run_dir / "admin.port").read_text().strip()
            with Prometheus(lab.directory / "prometheus", f"127.0.0.1:{port}") as prometheus:
                yield Shop(mesh, prometheus, client, web, database, web_vip, db_vip)


def scraped(shop: Shop, promql: str, value: float) -> None:
    """Prometheus has the value, exactly."""
    eventually(lambda: shop.prometheus.value(promql) == value, f"{promql} to be {value}", SCRAPES_S)


def test_promtool_accepts_what_we_expose(shop):
    shop.buy()
    with urllib.request.urlopen(shop.url) as answer:
        said = complaints(answer.read())
    istios = [line for line in said if line.startswith("istio_request_duration_milliseconds ")]
    assert said == istios, "only Istio's own name may offend: it is not in seconds"


def test_prometheus_scrapes_without_an_error(shop):
    eventually(lambda: shop.prometheus.target_status().get("health") == "up", "a good scrape", SCRAPES_S)
    assert shop.prometheus.target_status()["lastError"] == ""


def test_every_request_is_counted_once_per_reporter(shop):
    shop.buy()
    for reporter in ("source", "destination"):
        scraped(shop, f'sum(istio_requests_total{{reporter="{reporter}"}})', shop.served())
    scraped(shop, "sum(seine_requests_total)", shop.served())
    missing = sum(seen["status"] == 404 for nginx in shop.web for seen in nginx.requests())
    scraped(shop, 'sum(istio_requests_total{reporter="source",response_code="404"})', missing)


def test_every_connection_is_counted_as_the_database_counts_it(shop):
    shop.buy()
    number = len(shop.db.clients())
    scraped(shop, 'sum(istio_tcp_connections_opened_total{destination_service_name="db",reporter="source"})', number)
    scraped(shop, 'sum(istio_tcp_connections_closed_total{destination_service_name="db",reporter="source"})', number)
    scraped(shop, 'sum(seine_connections_open{service="db"})', 0)


def test_kiali_draws_the_graph(shop):
    wanted = {
        kiali.Edge("client", "web", "web-1", "http", "200"),
        kiali.Edge("client", "web", "web-2", "http", "200"),
        kiali.Edge("client", "db", "db", "tcp"),
    }

    def drawn() -> bool:
        shop.buy()
        return wanted <= kiali.graph(shop.prometheus, "default", WINDOW_S).keys()

    eventually(drawn, "Kiali to draw every edge", SCRAPES_S)
    missing = kiali.Edge("client", "web", "web-1", "http", "404"), kiali.Edge("client", "web", "web-2", "http", "404")
    drawn_now = set(kiali.graph(shop.prometheus, "default", WINDOW_S))
    assert drawn_now <= wanted | set(missing), "and nothing else"


def test_kiali_knows_response_times(shop):
    def known() -> bool:
        shop.buy()
        found = kiali.response_times_ms(shop.prometheus, "default", 0.95, WINDOW_S)
        return found.keys() == {"web-1", "web-2"} and all(0 < value < 1000 for value in found.values())

    eventually(known, "Kiali to know the response times of both replicas", SCRAPES_S)


def test_pods_workers_and_hooks_are_there(shop):
    scraped(shop, 'count(seine_pod_state{state="captured"} == 1)', 4)
    scraped(shop, "sum(seine_worker_up)", 2)
    scraped(shop, 'count(seine_capture_events_total{pod="client",reason="captured"} > 0)', 1)
    scraped(shop, "count(seine_build_info) * count(istio_build)", 1)


def test_counters_survive_the_death_of_a_worker(shop):
    shop.buy()
    shop.mesh.kill_worker(0)
    shop.mesh.heal()
    shop.buy()
    scraped(shop, "sum(seine_requests_total)", shop.served())
    assert shop.prometheus.value("sum(resets(seine_requests_total[5m]))") == 0
    scraped(shop, "sum(seine_worker_restarts_total)", 1)
