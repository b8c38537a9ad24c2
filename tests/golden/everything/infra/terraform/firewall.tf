# What may come in. Everything may go out.
#
# Each rule is an object of its own: those that infra/bin/firewall adds for the time of a deploy are not Terraform's, and it
# leaves them alone.
resource "openstack_networking_secgroup_v2" "server" {
  for_each = var.environments

  name                 = local.names[each.key]
  region               = var.region
  description          = "SSH from the admin networks, the web from everywhere"
  delete_default_rules = true
}

locals {
  incoming = merge(
    { for network in var.admin_networks : "SSH from ${network}" => { protocol = "tcp", port = 22, from = network } },
    merge([
      for network in local.everywhere : {
        "HTTP from ${network}"   = { protocol = "tcp", port = 80, from = network }
        "HTTPS from ${network}"  = { protocol = "tcp", port = 443, from = network }
        "HTTP/3 from ${network}" = { protocol = "udp", port = 443, from = network }
        "ICMP from ${network}"   = { protocol = strcontains(network, ":") ? "ipv6-icmp" : "icmp", port = null, from = network }
      }
    ]...)
  )

  rules = merge([
    for environment in var.environments : merge(
      { for name, rule in local.incoming : "${environment}: ${name}" => merge(rule, { environment = environment, direction = "ingress", name = name }) },
      {
        for network in local.everywhere : "${environment}: everything to ${network}" =>
        { environment = environment, direction = "egress", name = "Everything to ${network}", protocol = null, port = null, from = network }
      }
    )
  ]...)
}

resource "openstack_networking_secgroup_rule_v2" "server" {
  for_each = local.rules

  region            = var.region
  security_group_id = openstack_networking_secgroup_v2.server[each.value.environment].id
  description       = each.value.name
  direction         = each.value.direction
  ethertype         = strcontains(each.value.from, ":") ? "IPv6" : "IPv4"
  protocol          = each.value.protocol
  port_range_min    = each.value.port
  port_range_max    = each.value.port
  remote_ip_prefix  = each.value.from
}
