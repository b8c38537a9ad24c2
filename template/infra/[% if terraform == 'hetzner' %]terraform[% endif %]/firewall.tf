# What may come in. Everything may go out.
#
# Where infra/bin/firewall opens SSH for the time of a deploy, a server has two firewalls, and what one of them lets in
# comes in: the rules below, which are Terraform's alone, and one for the temporary rules, in which Terraform touches none.
# The second has the name that infra/deploy.conf gives.
resource "hcloud_firewall" "server" {
  for_each = var.environments

  name   = var.temporary_rules ? "${local.names[each.key]}-permanent" : local.names[each.key]
  labels = local.labels[each.key]

  rule {
    description = "SSH from the admin networks"
    direction   = "in"
    protocol    = "tcp"
    port        = "22"
    source_ips  = var.admin_networks
  }

  rule {
    description = "HTTP"
    direction   = "in"
    protocol    = "tcp"
    port        = "80"
    source_ips  = local.everywhere
  }

  rule {
    description = "HTTPS"
    direction   = "in"
    protocol    = "tcp"
    port        = "443"
    source_ips  = local.everywhere
  }

  rule {
    description = "HTTP/3"
    direction   = "in"
    protocol    = "udp"
    port        = "443"
    source_ips  = local.everywhere
  }

  rule {
    description = "ICMP"
    direction   = "in"
    protocol    = "icmp"
    source_ips  = local.everywhere
  }
}

resource "hcloud_firewall" "temporary" {
  for_each = var.temporary_rules ? var.environments : toset([])

  name   = local.names[each.key]
  labels = local.labels[each.key]

  lifecycle {
    ignore_changes = [rule]
  }

  # Where both change, the other one gives the name free first.
  depends_on = [hcloud_firewall.server]
}

locals {
  firewall_ids = {
    for environment in var.environments : environment => concat(
      [hcloud_firewall.server[environment].id],
      var.temporary_rules ? [hcloud_firewall.temporary[environment].id] : []
    )
  }
}
