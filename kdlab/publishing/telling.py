"""What `kdlab publish` prints: the exact list of what goes and what stays."""

from __future__ import annotations

from kdlab.publishing.files import Plan


def tell(plan: Plan, repo: str) -> None:
    """One line a file."""
    width = max(len(item.path) for item in plan.items)
    print(f"{repo}: {len(plan.items)} files, {plan.size:,} bytes")
    for item in plan.items:
        print(f"  {item.path:<{width}}  {item.size:>15,}  sha256 {item.sha256[:12]}")
    print("left out:")
    for path, reason in plan.left_out.items():
        print(f"  {path}: {reason}")
    if plan.cleaned:
        print(
            f"{plan.cleaned} texts lost folders of this machine (the home folder is ~, this one ., others are cut to "
            "their end) or the names and keys in a URL"
        )
