# A network for each environment, in the project's vRack. The same security group guards it.
resource "openstack_networking_network_v2" "private" {
  for_each = var.environments

  name   = local.names[each.key]
  region = var.region
}

resource "openstack_networking_subnet_v2" "private" {
  for_each = var.environments

  name       = local.names[each.key]
  region     = var.region
  network_id = openstack_networking_network_v2.private[each.key].id
  cidr       = var.private_networks[each.key]
  ip_version = 4
  no_gateway = true # the way out is the public port
}

resource "openstack_networking_port_v2" "private" {
  for_each = var.environments

  name               = "${local.names[each.key]}-private"
  region             = var.region
  network_id         = openstack_networking_network_v2.private[each.key].id
  security_group_ids = [openstack_networking_secgroup_v2.server[each.key].id]

  fixed_ip {
    subnet_id  = openstack_networking_subnet_v2.private[each.key].id
    ip_address = local.private_addresses[each.key]
  }
}
