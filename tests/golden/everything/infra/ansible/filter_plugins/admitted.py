"""The filter `admitted_to_ssh`: whether rules of nftables let an address open SSH."""

import ipaddress
import re

# As infra/server/nftables.conf has them. A rule in other words counts as closed: better refused once too often.
RULE = re.compile(r"\s*(?:ip6? saddr \{(?P<networks>[^}]*)\} )?tcp dport 22 accept\b")


def admitted_to_ssh(address, rules):
    """Say whether one of the rules accepts TCP port 22 from the address."""
    try:
        wanted = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    wanted = getattr(wanted, "ipv4_mapped", None) or wanted
    for rule in filter(None, map(RULE.match, rules.splitlines())):
        networks = rule["networks"]
        if networks is None or any(wanted in ipaddress.ip_network(text.strip()) for text in networks.split(",")):
            return True
    return False


class FilterModule:
    """What Ansible looks for in this folder."""

    def filters(self):
        """Name the filters."""
        return {"admitted_to_ssh": admitted_to_ssh}
