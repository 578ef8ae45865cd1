# SPDX-License-Identifier: Apache-2.0
"""What a program's upstream connections agreed on, and whether it is what those of the others did.

Resumption is compared by the connections that a program makes one by one when it has made one before: one of them
resumes a session, or none does (two workers know nothing of each other's). Where many are made at once, it is a
matter of chance how many find a session that no other has used up.
"""

VERSION = "TLSv1.3"


class Agreed:
    """What the connections of one program agreed on."""

    def __init__(self):
        self.suites = set()          # (protocol, cipher suite)
        self.resumes = None          # whether one of the connections after the first did
        self.n = self.n_resumed = 0  # of all its connections in this row

    def add(self, agreements):
        for protocol, suite, resumed in agreements:
            self.suites.add((protocol, suite))
            self.n += 1
            self.n_resumed += resumed

    def see_second(self, agreements):
        for _, _, resumed in agreements:
            self.resumes = self.resumes or resumed

    def resumption(self):
        return {None: "no second connection", True: "resumed", False: "not resumed"}[self.resumes]

    def __str__(self):
        suites = ", ".join(" ".join(pair) for pair in sorted(self.suites)) or "nothing seen"
        return f"{suites}, {self.resumption()}"


def differences(agreed, proxies):
    """Sentences on what differs; `agreed` is {name: Agreed}. Only those of `proxies` are compared in
    resumption: the TLS of all others is the generator's, which has none."""
    found = [f"{name} speaks {protocol}, not {VERSION}" for name, a in agreed.items()
             for protocol, _ in sorted(a.suites) if protocol != VERSION]
    found += [f"nothing seen of {name}" for name, a in agreed.items() if not a.suites]
    for what, kinds in (("suites", {str(sorted(a.suites)) for a in agreed.values()}),
                        ("resumption", {agreed[name].resumption() for name in proxies})):
        if len(kinds) > 1:
            found.append(f"{what} differ")
    if found:
        found += [f"{name}: {a}" for name, a in agreed.items()]
    return found
