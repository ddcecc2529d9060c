"""Write SeaweedFS's users, with the keys of their Secrets, to the file that the server reads at its start."""  # noqa: INP001

import json
import os
from pathlib import Path


def main() -> None:
    """Write the file that the environment names."""
    folder, target = Path(os.environ["FOLDER"]), Path(os.environ["IDENTITIES"])
    users = json.loads(os.environ["USERS"])  # actions by user
    entries = [identity(folder / user, user, actions) for user, actions in users.items()]
    target.touch(0o640)
    target.write_text(json.dumps({"identities": entries}), "utf-8")


def identity(folder: Path, user: str, actions: list[str]) -> dict[str, object]:
    """Return one user with the keys in a folder."""
    keys = {"accessKey": text(folder / "access-key"), "secretKey": text(folder / "secret-key")}
    return {"name": user, "credentials": [keys], "actions": actions}


def text(file: Path) -> str:
    """Return a Secret without the line break that editors put at the end."""
    return file.read_text("utf-8").removesuffix("\n")


if __name__ == "__main__":
    main()
