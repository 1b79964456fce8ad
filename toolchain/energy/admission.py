"""Whether the target of a profile's own chip takes the network that is priced on it.

A placement only asks what cores hold. What else a chip can't do (inputs of numbers, sums to read from,
neurons of another kind) its target's `check` knows, so that what `export` refuses isn't priced. A profile
without a target of its own is placed only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ...export.graph import Graph
from ...export.target import TARGETS, Problem, Target, get_target
from ...hardware_profiles import Profile
from ...hardware_profiles.quantities import FAMILY

GRADED_INPUT_IS_NOTED = ("loihi1",)
"""Profiles of chips of binary spikes that say what graded input costs all the same: a note, no refusal."""


def refusals(graph: Graph, profiles: Iterable[Profile], room: Target) -> dict[str, tuple[str, ...]]:
    """By chip profile, every limit of its own target that the network breaks, if it breaks any.

    Args:
        graph: the network that is priced.
        room: the target that it was made for. Where that one's profile is another chip's
            (`profile_stands_in_for`), it is asked, and not the other chip's target.
    """
    found = {}
    for profile in profiles:
        owner = _owner(profile, room) if FAMILY[profile.kind] == "chip" else None
        if owner is not None and (reasons := _reasons(graph, profile, owner, room)):
            found[profile.name] = reasons
    return found


def stand_ins(profiles: Iterable[Profile], room: Target) -> dict[str, str]:
    """Of the target's own profile the chip that it stands in for, if it is another chip's; {} if not."""
    meant = getattr(room, "profile_stands_in_for", "")
    return {profile.name: meant for profile in profiles if meant and profile.name == room.profile}


def _owner(profile: Profile, room: Target) -> Target | None:
    """The target whose chip the profile prices: the one of its name first.

    `room` itself, where the profile stands in for its chip.
    """
    if stand_ins([profile], room):
        return room
    if profile.name in TARGETS.names():
        return get_target(profile.name)
    owners = (get_target(name) for name in TARGETS.names() if name in TARGETS.built_in)
    return next((owner for owner in owners if owner.profile == profile.name), None)


def _reasons(graph: Graph, profile: Profile, owner: Target, room: Target) -> tuple[str, ...]:
    """What no other integers would mend comes first, and alone."""
    problems = _problems(graph, profile, owner)
    if not problems or owner.name == room.name:
        return tuple(map(str, problems))
    lasting = _problems(replace(graph, weight_bits=None), profile, owner)
    remedy = f"`snnkd export --target {owner.name}` makes its own, `energy --target {owner.name}` prices them"
    return tuple(map(str, lasting)) or (f"the integers are those for {room.name}: {remedy}",)


def _problems(graph: Graph, profile: Profile, owner: Target) -> list[Problem]:
    """What the target says, without what the profile's figures only note."""
    noted = {port.name for port in graph.inputs} if profile.name in GRADED_INPUT_IS_NOTED else set()
    return [p for p in owner.check(graph) if not (p.layer in noted and p.limit == "payload")]
