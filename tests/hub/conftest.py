"""The local Hub, emptied before every test, and one process that talks to it."""

from collections.abc import Iterator

import pytest
from helpers.hub_client import HubClient
from helpers.hub_server import HubServer


@pytest.fixture(scope="session")
def served(tmp_path_factory) -> Iterator[tuple[HubServer, HubClient]]:
    server = HubServer()
    with server.serve() as address:
        client = HubClient(address, tmp_path_factory.mktemp("client"))
        yield server, client
        client.close()


@pytest.fixture
def hub(served) -> HubServer:
    served[0].clear()
    return served[0]


@pytest.fixture
def client(served) -> HubClient:
    return served[1]
