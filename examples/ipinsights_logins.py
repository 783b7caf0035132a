"""Realistic web logins, drawn: who logs in from which IPv4 address and when.

    python examples/ipinsights_logins.py --users 10000 --days 10 --log access.log --train train.csv --test test.csv

The internet of this file has autonomous systems of four kinds, each with ranges of its own: residential providers
(regions of a /20, a dynamic address that changes every few days), mobile carriers (thousands share a /24 behind
carrier-grade NAT), companies and universities (a /22 to /27, one or a few addresses), and hosting. A user has a home
network, mostly a phone, often a workplace, and sometimes travels. How often users log in is log-normal. Seven days are
for training, the rest for testing. Everything follows from the seed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DAY = 86_400
TRAIN_DAYS = 7


@dataclass(frozen=True)
class Logins:
    """n logins in the order of their times. `user` (n,) counts from 0, `ip` (n,) uint32; `second` (n,)."""

    user: np.ndarray
    ip: np.ndarray
    second: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def part(self, rows: np.ndarray) -> Logins:
        return Logins(self.user[rows], self.ip[rows], self.second[rows])

    @property
    def names(self) -> np.ndarray:
        """The users' names, (n,) of str."""
        return np.char.add("user_", self.user.astype(str))

    @property
    def addresses(self) -> np.ndarray:
        """The addresses in dotted form, (n,) of str."""
        return dotted(self.ip)

    def table(self) -> np.ndarray:
        """(n, 2) of str: what IP Insights takes."""
        return np.column_stack([self.names, self.addresses])


@dataclass(frozen=True)
class Networks:
    """Ranges of addresses: the first address and the number of free bits of each, by kind."""

    homes: np.ndarray  # regions of residential providers: dynamic pools of 2**12 addresses
    carriers: np.ndarray  # (carriers, 16): /24s of each mobile carrier
    companies: np.ndarray
    company_bits: np.ndarray

    @classmethod
    def drawn(cls, users: int, random: np.random.Generator) -> Networks:
        slash_8 = np.setdiff1d(np.arange(1, 224), [10, 127, 172, 192])  # addresses that are routed
        providers = max(8, users // 400)
        blocks = (random.choice(slash_8, providers) << 24) + (random.integers(0, 64, providers) << 18)  # a /14 each
        homes = blocks[random.integers(0, providers, max(16, users // 40))] + (
            random.integers(0, 64, max(16, users // 40)) << 12
        )
        carriers = max(3, users // 2000)
        starts = (random.choice(slash_8, carriers) << 24) + (random.integers(0, 256, carriers) << 16)
        gateways = starts[:, None] + (random.integers(0, 256, (carriers, 16)) << 8)
        companies = max(8, users // 25)
        bits = random.integers(5, 11, companies)
        offices = (random.choice(slash_8, companies) << 24) + (random.integers(0, 1 << 19, companies) << 5)
        return cls(homes, gateways, offices >> bits << bits, bits)


def logins(users: int = 2000, days: int = 10, per_user_and_day: float = 30.0, seed: int = 0) -> Logins:
    """Logins of `users` accounts over `days` days."""
    random = np.random.default_rng(seed)
    networks = Networks.drawn(users, random)
    activity = random.lognormal(0, 1, users)
    count = int(users * days * per_user_and_day)
    user = random.choice(users, count, p=activity / activity.sum())
    second = np.sort(random.integers(0, days * DAY, count))
    day, hour = second // DAY, second % DAY // 3600
    ip = _home(users, days, user, day, networks, random)
    has_phone, has_work, travels = random.random(users) < 0.85, random.random(users) < 0.7, random.random(users) < 0.1
    at_work = has_work[user] & (hour >= 8) & (hour < 18) & (day % 7 < 5) & (random.random(count) < 0.7)
    ip = np.where(at_work, _work(users, user, networks, random), ip)
    by_phone = has_phone[user] & (random.random(count) < 0.3)
    ip = np.where(by_phone, _phone(users, user, networks, random), ip)
    abroad = travels[user] & (random.random((users, days))[user, day] < 0.2) & ~by_phone
    ip = np.where(abroad, _travel(users, days, user, day, networks, random), ip)
    return Logins(user, ip.astype(np.uint32), second)


def _home(
    users: int, days: int, user: np.ndarray, day: np.ndarray, networks: Networks, random: np.random.Generator
) -> np.ndarray:
    """An address of the user's region; of a fifth of the users it changes on a day with one chance in three."""
    region = networks.homes[random.integers(0, len(networks.homes), users)]
    changes = (random.random((users, days)) < 1 / 3) & (random.random(users) < 0.2)[:, None]
    changes[:, 0] = True
    leases = random.integers(0, 1 << 12, (users, days))
    last = np.maximum.accumulate(np.where(changes, np.arange(days), 0), axis=1)
    return region[user] + np.take_along_axis(leases, last, axis=1)[user, day]


def _work(users: int, user: np.ndarray, networks: Networks, random: np.random.Generator) -> np.ndarray:
    """One of up to four addresses of the user's company, which many of its users share."""
    company = random.integers(0, len(networks.companies), users)[user]
    gateway = random.integers(0, 4, len(user)) * 7 % (1 << networks.company_bits[company])
    return networks.companies[company] + gateway


def _phone(users: int, user: np.ndarray, networks: Networks, random: np.random.Generator) -> np.ndarray:
    """Any address of the four gateways of the user's carrier that are near."""
    carrier = random.integers(0, len(networks.carriers), users)
    near = random.integers(0, networks.carriers.shape[1], (users, 4))
    gateway = near[user, random.integers(0, 4, len(user))]
    return networks.carriers[carrier[user], gateway] + random.integers(0, 256, len(user))


def _travel(
    users: int, days: int, user: np.ndarray, day: np.ndarray, networks: Networks, random: np.random.Generator
) -> np.ndarray:
    """An address of another region, for that day."""
    region = random.integers(0, len(networks.homes), (users, days))
    return networks.homes[region[user, day]] + random.integers(0, 1 << 12, (users, days))[user, day]


def split(drawn: Logins) -> tuple[Logins, Logins]:
    """The first seven days, shuffled as SageMaker advises, and the days after."""
    early = drawn.second < TRAIN_DAYS * DAY
    order = np.random.default_rng(1).permutation(np.flatnonzero(early))
    return drawn.part(order), drawn.part(~early)


def dotted(ip: np.ndarray) -> np.ndarray:
    """Addresses as text: 3221225985 → 192.0.2.1."""
    parts = [(ip >> shift & 255).astype(str) for shift in (24, 16, 8, 0)]
    text = parts[0]
    for part in parts[1:]:
        text = np.char.add(np.char.add(text, "."), part)
    return text


def write_csv(drawn: Logins, path: Path) -> None:
    path.write_text("".join(f"{name},{ip}\n" for name, ip in zip(drawn.names, drawn.addresses, strict=True)))


def write_log(drawn: Logins, path: Path) -> None:
    """Apache's common log format, from 1 November 2018 on."""
    with path.open("w") as file:
        for name, ip, second in zip(drawn.names, drawn.addresses, drawn.second.tolist(), strict=True):
            day, rest = divmod(second, DAY)
            clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
            file.write(f'{ip} - {name} [{day + 1:02d}/Nov/2018:{clock} +0000] "GET /login HTTP/1.1" 200 1024\n')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--per-user-and-day", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    for name, what in (("log", "all in Apache's format"), ("train", "CSV of 7 days"), ("test", "CSV of the rest")):
        parser.add_argument(f"--{name}", type=Path, help=what)
    given = parser.parse_args()
    drawn = logins(given.users, given.days, given.per_user_and_day, given.seed)
    train, test = split(drawn)
    if given.log:
        write_log(drawn, given.log)
    for rows, path in ((train, given.train), (test, given.test)):
        if path:
            write_csv(rows, path)
    networks = len(np.unique(drawn.ip >> 8))
    print(f"{len(drawn)} logins of {given.users} users from {len(np.unique(drawn.ip))} addresses in {networks} /24s;")
    print(f"{len(train)} in the first {TRAIN_DAYS} days, {len(test)} after them")


if __name__ == "__main__":
    main()
