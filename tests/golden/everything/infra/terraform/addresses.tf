data "openstack_networking_network_v2" "public" {
  name   = var.public_network
  region = var.region
}

# A port of its own, not one that goes with the server: DNS stays right when the server is made anew.
resource "openstack_networking_port_v2" "public" {
  for_each = var.environments

  name               = "${local.names[each.key]}-public"
  region             = var.region
  network_id         = data.openstack_networking_network_v2.public.id
  security_group_ids = [openstack_networking_secgroup_v2.server[each.key].id]

  lifecycle {
    prevent_destroy = true
  }
}

locals {
  addresses = {
    for environment, port in openstack_networking_port_v2.public : environment => {
      ipv4    = one([for address in port.all_fixed_ips : address if !strcontains(address, ":")])
      ipv6    = one([for address in port.all_fixed_ips : address if strcontains(address, ":")])
      private = local.private_addresses[environment]
    }
  }
}
