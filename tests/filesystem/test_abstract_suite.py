"""The abstract suite of fsspec, on a filesystem whose signer signs everything."""

from __future__ import annotations

import pytest
from fsspec.implementations.local import LocalFileSystem, make_path_posix
from fsspec.tests import abstract


class Fixtures(abstract.AbstractFixtures):
    """Fixtures of fsspec's abstract suite."""

    @pytest.fixture
    def fs(self, full):
        """A filesystem that may do everything, by keys and through a signer service."""
        return full

    @pytest.fixture
    def fs_path(self):
        """A directory in the bucket."""
        return "examplebucket/suite"

    @pytest.fixture
    def fs_join(self):
        """Paths are joined by a slash."""
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def supports_empty_directories(self):
        """OSS has none."""
        return False

    @pytest.fixture
    def local_fs(self):
        """Local files whose directories make themselves, as the suite wants them."""
        return LocalFileSystem(auto_mkdir=True)

    @pytest.fixture
    def local_path(self, tmp_path):
        """A directory of the test's own."""
        return make_path_posix(str(tmp_path))


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    """Copying inside the store."""


class TestGet(abstract.AbstractGetTests, Fixtures):
    """Download."""


@pytest.mark.filterwarnings("ignore:nothing was sent")
class TestPut(abstract.AbstractPutTests, Fixtures):
    """Storing."""


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    """Opening."""


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    """Values."""
