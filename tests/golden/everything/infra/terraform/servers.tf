# OpenStack takes one key when a server is made; cloud-init.tf brings them all.
resource "openstack_compute_keypair_v2" "admin" {
  name       = "${var.project}-terraform"
  region     = var.region
  public_key = values(var.ssh_public_keys)[0]

  lifecycle {
    ignore_changes = [public_key]
  }
}

resource "openstack_compute_instance_v2" "server" {
  for_each = var.environments

  name        = local.names[each.key]
  region      = var.region
  flavor_name = var.server_types[each.key]
  image_name  = var.image
  key_pair    = openstack_compute_keypair_v2.admin.name
  user_data   = local.user_data[each.key]
  metadata    = local.labels[each.key]

  stop_before_destroy = true

  network {
    port           = openstack_networking_port_v2.public[each.key].id
    access_network = true
  }

  network {
    port = openstack_networking_port_v2.private[each.key].id
  }

  vendor_options {
    # Or the addresses would go with the server.
    detach_ports_before_destroy = true
    ignore_resize_confirmation  = true
  }

  lifecycle {
    # OVHcloud has no protection against deleting a server. README.md says how this one is switched off.
    prevent_destroy = true
    # A change of these would make the server anew. That is done on purpose.
    ignore_changes = [image_id, image_name, key_pair, user_data]
  }
}
