"""Machine code comes only from files and folders that nobody but the user and root can change."""

from __future__ import annotations

import grp
import json
import os
import pwd
import stat
import tempfile
from pathlib import Path
from random import Random

import pytest

from fastcnn.jit import cache, trust
from tests.mutations import mutate
from tests.processes import run_python, start_python
from tests.test_cache import NAME, RELU, kernels_in

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there are no such permissions")
as_root = pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can give files away")
OTHER = 12345


def status(mode: int, user: int | None = None, group: int = OTHER) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, os.geteuid() if user is None else user, group, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "user", "sticky", "problem"),
    [
        (stat.S_IFDIR | 0o755, None, False, None),
        (stat.S_IFDIR | 0o755, 0, False, None),
        (stat.S_IFDIR | 0o700, OTHER, False, "belongs to another user"),
        (stat.S_IFREG | 0o600, OTHER, False, "belongs to another user"),
        (stat.S_IFLNK | 0o777, OTHER, True, "belongs to another user"),
        (stat.S_IFLNK | 0o777, None, True, None),  # the bits of a link mean nothing
        (stat.S_IFDIR | 0o775, None, False, "others, of group 12345"),
        (stat.S_IFDIR | 0o757, None, False, "all users"),
        (stat.S_IFDIR | 0o1777, None, True, None),  # as /tmp, above
        (stat.S_IFDIR | 0o1777, None, False, "all users"),
        (stat.S_IFDIR | 0o1777, OTHER, True, "belongs to another user"),
        (stat.S_IFREG | 0o646, 0, False, "all users"),
    ],
)
def test_who_may_own_and_write(mode, user, sticky, problem):
    found = trust.problem_of(status(mode, user), Path("x"), sticky=sticky)
    assert found is None if problem is None else problem in str(found)


@pytest.mark.parametrize(
    ("primary", "name", "members", "private"),
    [
        (7, "ann", [], True),  # Debian, Ubuntu, Fedora
        (7, "ann", ["ann"], True),
        (7, "ann", ["ann", "bob"], False),
        (7, "users", [], False),  # one group for all: openSUSE, macOS's staff
        (8, "ann", [], False),
    ],
)
def test_a_private_group_may_write(primary, name, members, private, monkeypatch):
    monkeypatch.setattr(pwd, "getpwuid", lambda user: pwd.struct_passwd(("ann", "x", user, primary, "", "/", "")))
    monkeypatch.setattr(grp, "getgrgid", lambda group: grp.struct_group((name, "x", group, members)))
    monkeypatch.setattr(trust, "is_private", trust.is_private.__wrapped__)
    found = trust.problem_of(status(stat.S_IFDIR | 0o775, group=7), Path("x"), sticky=False)
    assert (found is None) == private


def test_an_access_list_is_no_private_group(monkeypatch):
    """With an access list the bits of the group are the mask of all that it grants."""
    monkeypatch.setattr(trust, "is_private", lambda *_: True)
    assert trust.problem_of(status(stat.S_IFDIR | 0o775), Path("x"), sticky=False) is None
    monkeypatch.setattr(os, "getxattr", lambda *_: b"a list", raising=False)
    assert trust.problem_of(status(stat.S_IFDIR | 0o775), Path("x"), sticky=False)


def test_a_user_or_group_without_a_name_is_no_private_group():
    assert not trust.is_private(2**31 - 5, 2**31 - 6)


# -------------------------------------------------------------------------------------------------------------- folders


def test_what_is_missing_is_made_and_nobody_else_can_write_there(tmp_path):
    before = os.umask(0)
    try:
        made = trust.resolve(tmp_path / "a" / "b", create=True)
    finally:
        os.umask(before)
    assert made == tmp_path / "a" / "b"
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (made, made.parent)] == [0o755, 0o755]


def test_links_are_followed(tmp_path):
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "up").symlink_to("../link/deep/..")
    (tmp_path / "far").symlink_to(tmp_path / "link" / "up" / "deep")
    assert trust.resolve(tmp_path / "far") == tmp_path / "real" / "deep"
    assert trust.resolve(tmp_path / "link" / ".." / "far" / "..") == tmp_path / "real"
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(OSError, match="symbolic links"):
        trust.resolve(tmp_path / "round")


@pytest.mark.parametrize("above", [0, 1, 2])
@pytest.mark.parametrize("mode", [0o757, 0o777])
def test_a_folder_open_to_all_anywhere_on_the_way_is_refused(above, mode, tmp_path):
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    assert trust.resolve(folder) == folder
    target = (folder, folder.parent, folder.parent.parent)[above]
    target.chmod(mode)
    with pytest.raises(PermissionError, match=f"^{target} can be written to by all users"):
        trust.resolve(folder)
    with pytest.raises(PermissionError):
        trust.resolve(folder / "new", create=True)
    assert not (folder / "new").exists()
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(PermissionError, match=f"^{target} can"):
        trust.resolve(link)


def test_a_sticky_folder_above_is_as_good_as_tmp(tmp_path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o1777)
    assert trust.resolve(folder) == folder
    folder.chmod(0o1777)  # others could put files into it
    with pytest.raises(PermissionError, match="all users"):
        trust.resolve(folder)


def test_a_link_in_an_open_folder_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(PermissionError, match=r"/open can be"):
        trust.resolve(tmp_path / "open" / "link")


@as_root
@pytest.mark.parametrize("what", ["folder", "above", "link"])
def test_what_belongs_to_another_user_is_refused(what, tmp_path):
    folder, link = tmp_path / "a" / "b", tmp_path / "link"
    folder.mkdir(parents=True)
    link.symlink_to(folder)
    target = {"folder": folder, "above": folder.parent, "link": link}[what]
    os.chown(target, OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(PermissionError, match=f"^{target} belongs to another user, 12345"):
        trust.resolve(link)


# ---------------------------------------------------------------------------------------------------------------- files


def test_a_file_is_checked_once_it_is_open(tmp_path):
    path = tmp_path / "x.kernel"
    path.write_bytes(b"code")
    path.chmod(0o644)
    with trust.opened(path) as file:
        assert file.read() == b"code"
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "fifo")
    for wrong in (tmp_path / "link", tmp_path / "fifo", tmp_path, tmp_path / "none"):
        with pytest.raises(OSError), trust.opened(wrong):  # noqa: PT011
            pass
    path.chmod(0o646)
    with pytest.raises(PermissionError, match="all users"), trust.opened(path):
        pass


@as_root
def test_a_file_of_another_user_is_refused(tmp_path):
    path = tmp_path / "x.kernel"
    path.write_bytes(b"code")
    os.chown(path, OTHER, OTHER)
    with pytest.raises(PermissionError, match="belongs to another user"), trust.opened(path):
        pass


# ---------------------------------------------------------------------------------------------------------------- cache


def test_a_kernel_that_others_can_write_to_is_compiled_anew(tmp_path):
    """What is in it is right, and checked; who may write it could make it so."""
    settings = {"FASTCNN_CACHE_DIR": str(tmp_path)}
    run_python(RELU, **settings)
    (file,) = kernels_in(tmp_path)
    file.chmod(0o666)
    assert json.loads(run_python(RELU, **settings))["compiled"] == 1
    assert stat.S_IMODE(file.stat().st_mode) & 0o022 == 0
    assert json.loads(run_python(RELU, **settings))["loaded"] == 1


def test_a_chosen_folder_that_is_not_trusted_is_named_once(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    command = start_python(RELU, FASTCNN_CACHE_DIR=str(folder))
    output, errors = command.communicate(timeout=120)
    assert json.loads(output)["right"]
    assert errors.count("RuntimeWarning") == 1
    assert f"FASTCNN_CACHE_DIR={folder}: not used for compiled kernels: {folder} can be written to by all" in errors
    assert not list(folder.iterdir())


def test_a_default_folder_that_is_not_trusted_is_passed_over_in_silence(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o777)
    code = "from fastcnn.jit import cache\ncache.FOLDER = cache.Path('/dev/null')\n"
    result = json.loads(run_python(code + RELU, XDG_CACHE_HOME=str(home)))
    assert result["right"]
    assert result["folder"] == "None"
    assert not list(home.iterdir())


# Root becomes a user to whom all of this belongs to root; what is imported later is imported before.
AS_USER = """
import os, fastcnn.jit.kernel, fastcnn.kernels.maps, llvmlite.binding, numpy.random
from fastcnn.jit import cache
cache.source_stamp(cache.processors()[0])
if os.geteuid() == 0:
    os.seteuid(65534)
"""


def test_a_cache_that_is_only_read_is_read():
    """As a container has it: root has compiled, a user runs; nothing can be written, and nothing fails."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        settings = {"FASTCNN_CACHE_DIR": folder}
        run_python(RELU, **settings)
        inner = Path(folder) / NAME
        (file,) = kernels_in(inner)
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
        inner.chmod(0o555)
        more = "cache.write('more', 'kinds', cache.ObjectFile('entry', [], b'code'))\n"
        result = json.loads(run_python(AS_USER + RELU + more, **settings))
        assert result["right"]
        assert (result["compiled"], result["loaded"], result["folder"]) == (0, 1, "None")
        assert list(inner.iterdir()) == [file]
        inner.chmod(0o755)


def test_a_package_that_root_has_used_is_read_and_the_rest_is_kept_by_the_user(tmp_path, monkeypatch):
    package, home = tmp_path / "package", tmp_path / "home"
    monkeypatch.delenv("FASTCNN_CACHE_DIR", raising=False)
    monkeypatch.setattr(cache, "FOLDER", package)
    monkeypatch.setattr(cache, "_user_folders", lambda: [home])
    monkeypatch.setattr(cache, "cache_folder", cache.cache_folder.__wrapped__)
    cache.write("of_root", "kinds", cache.ObjectFile("one", [], b"1"))
    assert len(kernels_in(package)) == 1
    writing = tempfile.TemporaryFile

    def refused(dir):
        if package in dir.parents:
            raise PermissionError
        return writing(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    cache.write("of_user", "kinds", cache.ObjectFile("two", [], b"2"))
    assert [path.name.partition(".")[0] for path in kernels_in(home)] == ["of_user"]
    assert cache.read("of_root", "kinds") == ("one", [], b"1")
    assert cache.read("of_user", "kinds") == ("two", [], b"2")


def test_two_thousand_mutations_of_a_kernel_are_none(tmp_path, monkeypatch):
    """Cut off, bits turned, bytes put in or replaced: never another kernel, never an exception."""
    monkeypatch.setenv("FASTCNN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "cache_folder", cache.cache_folder.__wrapped__)
    kernel = cache.ObjectFile("entry", ["a", "b"], bytes(range(256)) * 8)
    cache.write("x", "kinds", kernel)
    (path,) = kernels_in(tmp_path / NAME)
    whole, random = path.read_bytes(), Random(0)
    for k in range(2000):
        content = mutate(whole, random)
        expected = kernel if content == whole else None
        assert cache._parse(content) == expected
        if k < 100:
            path.write_bytes(content)
            assert cache.read("x", "kinds") == expected
