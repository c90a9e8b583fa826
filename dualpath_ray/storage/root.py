"""Where a store is: a directory, or the address of an object store such as ``s3://bucket/prefix?region=eu-west-1``."""


def is_address(root: str) -> bool:
    """Whether it is an address and no directory."""
    return "://" in root


def child(root: str, name: str) -> str:
    """A place of its own in ``root``."""
    before, mark, query = root.partition("?") if is_address(root) else (root, "", "")
    return f"{before.rstrip('/')}/{name}{mark}{query}"


def shard_root(root: str, shard: int, num_shards: int) -> str:
    """Place of one storage node; the only one has the root to itself."""
    return root if num_shards == 1 else child(root, f"shard{shard}")
