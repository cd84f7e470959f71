# Where this workflow lies: in a folder, or in a commit that Snakemake reads from git. And where its
# results lie, since a workflow that uses this one as a module may put them below a `prefix:`.

import os
import sys
import tarfile
import tempfile
from pathlib import Path

from snakemake.io import local
from snakemake.sourcecache import LocalSourceFile


def repository(source):
    """The repository that Snakemake reads a file from: its own clone, or a folder."""
    from git import Repo

    hosted = getattr(source, "hosted_repo", None)
    return hosted.repo if hosted else Repo(source.repo_path)


def checked_out(source):
    """All files of a workflow that Snakemake reads from git, in a folder named by the commit.

    Snakemake fetches a file when it needs it, but the library is imported whole. So this file alone is
    read from git, and all else from the folder. It is beside Snakemake's own state, where all nodes of
    a cluster see it, and is made once.
    """
    repo = repository(source)
    commit = repo.commit(source.ref).hexsha
    made = Path(".snakemake", "from-git", commit).resolve()
    if not made.is_dir():
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=made.parent, ignore_cleanup_errors=True
        ) as name:
            with tempfile.TemporaryFile() as file:
                repo.archive(file, commit)
                file.seek(0)
                with tarfile.open(fileobj=file) as archive:
                    archive.extractall(f"{name}/all", filter="data")
            try:
                os.rename(f"{name}/all", made)
            except OSError:  # another process was first
                if not made.is_dir():
                    raise
    return made


# of this file, not of the Snakefile that Snakemake was given: that may use this workflow as a module
HERE = workflow.current_basedir
if isinstance(HERE, LocalSourceFile):
    PROJECT, FROM_GIT = Path(str(HERE)).parents[1], None
else:
    PROJECT, FROM_GIT = checked_out(HERE), (repository(HERE).git_dir, HERE.ref)
RULES = PROJECT / "workflow" / "rules"
SCRIPTS = PROJECT / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))


def own(path):
    """A file of this workflow as an input, at one place in the run's folder wherever the workflow lies.

    Snakemake compares files by content only under the name that they had. So that a run stays finished
    with another clone, such a file is laid beside Snakemake's own state, unless it lies there anyway.
    """
    source = PROJECT / path
    if PROJECT == Path().resolve():
        return local(path)
    copy = Path(".snakemake", "from-workflow", path)
    if not copy.is_file() or copy.read_bytes() != source.read_bytes():
        copy.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=copy.parent, delete=False) as file:
            file.write(source.read_bytes())
        os.replace(file.name, copy)
    return local(str(copy))


PREFIX = (
    workflow.modifier.path_modifier
)  # of now: functions are called when it is another


def placed(path):
    """Where a file of the run really lies: below the `prefix:` of a module, if there is one. Snakemake
    does the same with the files of rules, and not with params."""
    return str(PREFIX.replace_prefix(path))
