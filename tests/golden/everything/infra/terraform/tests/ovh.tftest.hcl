# What must stay true whatever changes here. Runs without an account: terraform test.
mock_provider "openstack" {
  # Nothing is applied: what is protected could not be destroyed again.
  override_during = plan

  mock_resource "openstack_networking_port_v2" {
    defaults = {
      id            = "0c6f3a52-0000-4000-8000-000000000001"
      all_fixed_ips = ["192.0.2.1", "2001:db8:1::1"]
    }
  }
  mock_resource "openstack_blockstorage_volume_v3" {
    defaults = { id = "3f1c9d2e-7b54-4c1a-9a67-5d1f0e2b8c90" }
  }
}

variables {
  project         = "ship"
  environments    = ["staging", "production"]
  architecture    = "amd64"
  admin_networks  = ["203.0.113.7/32", "2001:db8:12::/48"]
  temporary_rules = true
  ssh_public_keys = { anna = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxpc3RlbmluZ3RvdGhlc2Vh anna" }
  hostnames       = { staging = "api.staging.example.com", production = "api.example.com" }
  server_types    = { staging = "b3-8", production = "b3-16" }
  volume_sizes    = { staging = 0, production = 40 }
  private_networks = {
    staging    = "10.10.0.0/24"
    production = "10.20.0.0/24"
  }
  image  = "Debian 13"
  region = "GRA11"
}

run "firewall" {
  command = plan

  assert {
    condition = alltrue([
      for environment in ["staging", "production"] : toset([
        for key, rule in openstack_networking_secgroup_rule_v2.server :
        "${rule.direction} ${rule.ethertype} ${coalesce(rule.protocol, "any")} ${coalesce(rule.port_range_min, 0)}-${coalesce(rule.port_range_max, 0)} ${rule.remote_ip_prefix}"
        if startswith(key, environment)
        ]) == toset([
        "ingress IPv4 tcp 22-22 203.0.113.7/32",
        "ingress IPv6 tcp 22-22 2001:db8:12::/48",
        "ingress IPv4 tcp 80-80 0.0.0.0/0",
        "ingress IPv6 tcp 80-80 ::/0",
        "ingress IPv4 tcp 443-443 0.0.0.0/0",
        "ingress IPv6 tcp 443-443 ::/0",
        "ingress IPv4 udp 443-443 0.0.0.0/0",
        "ingress IPv6 udp 443-443 ::/0",
        "ingress IPv4 icmp 0-0 0.0.0.0/0",
        "ingress IPv6 ipv6-icmp 0-0 ::/0",
        "egress IPv4 any 0-0 0.0.0.0/0",
        "egress IPv6 any 0-0 ::/0",
      ])
    ])
    error_message = "The rules are not exactly SSH from the admin networks, the web and ICMP from everywhere, and everything outwards."
  }

  assert {
    condition     = { for environment, group in openstack_networking_secgroup_v2.server : environment => group.name } == { staging = "ship-staging", production = "ship-production" }
    error_message = "infra/bin/firewall would not find the security groups that infra/deploy.conf names."
  }

  assert {
    condition     = alltrue([for group in openstack_networking_secgroup_v2.server : group.delete_default_rules])
    error_message = "OpenStack's own rules would stay."
  }
}

run "servers" {
  command = plan

  assert {
    condition     = { for environment, server in openstack_compute_instance_v2.server : environment => "${server.name} ${server.flavor_name} ${server.image_name}" } == { staging = "ship-staging b3-8 Debian 13", production = "ship-production b3-16 Debian 13" }
    error_message = "There is not one server for each environment, with its name and flavor."
  }

  assert {
    condition     = alltrue([for server in openstack_compute_instance_v2.server : length(server.network) == 2 && one(server.vendor_options).detach_ports_before_destroy])
    error_message = "A server does not have its two ports, or its addresses would go with it."
  }

  assert {
    condition     = { for environment, subnet in openstack_networking_subnet_v2.private : environment => "${subnet.cidr} ${subnet.no_gateway}" } == { staging = "10.10.0.0/24 true", production = "10.20.0.0/24 true" } && one(openstack_networking_port_v2.private["production"].fixed_ip).ip_address == "10.20.0.10"
    error_message = "Each environment has a private network of its own without a way out, and its server the address 10 in it."
  }

  assert {
    condition     = keys(openstack_blockstorage_volume_v3.data) == ["production"] && openstack_blockstorage_volume_v3.data["production"].size == 40
    error_message = "A size of 0 makes no volume, any other one makes one of that size."
  }

  assert {
    condition     = alltrue([for environment, server in openstack_compute_instance_v2.server : server.metadata == tomap({ project = "ship", environment = environment, managed-by = "terraform" })])
    error_message = "A server's metadata does not say whose it is."
  }
}

run "first_boot" {
  command = plan

  assert {
    condition     = flatten(yamldecode(local.user_data["production"]).runcmd) == ["/usr/local/sbin/mount-data-volume", "/dev/disk/by-id/virtio-3f1c9d2e-7b54-4c1a-9"] && yamldecode(local.user_data["staging"]).runcmd == []
    error_message = "The volume is not mounted where there is one, or is where there is none."
  }

  assert {
    condition     = yamldecode(output.ansible_inventory).all.children.production.hosts.production == { ansible_host = "192.0.2.1", ansible_user = "admin", private_ip = "10.20.0.10" }
    error_message = "The inventory does not say how Ansible reaches production."
  }
}

run "one_environment" {
  command = plan

  variables {
    environments = ["staging"]
  }

  assert {
    condition     = keys(openstack_compute_instance_v2.server) == ["staging"] && keys(openstack_blockstorage_volume_v3.data) == []
    error_message = "One environment alone brings something of the other."
  }
}
