# What must stay true whatever changes here. Runs without an account: terraform test.
mock_provider "hcloud" {
  # Nothing is applied: what is protected could not be destroyed again.
  override_during = plan

  mock_resource "hcloud_firewall" {
    defaults = { id = "11" }
  }
  mock_resource "hcloud_network" {
    defaults = { id = "22" }
  }
  mock_resource "hcloud_network_subnet" {
    defaults = { id = "22-10.10.0.0/24" }
  }
  mock_resource "hcloud_primary_ip" {
    defaults = {
      id         = 33
      ip_address = "192.0.2.1"
      ip_network = "2001:db8:1::/64"
    }
  }
  mock_resource "hcloud_server" {
    defaults = { id = "44" }
  }
  mock_resource "hcloud_ssh_key" {
    defaults = { id = "55" }
  }
  mock_resource "hcloud_volume" {
    defaults = {
      id           = "66"
      linux_device = "/dev/disk/by-id/scsi-0HC_Volume_66"
    }
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
  server_types    = { staging = "cx23", production = "cx33" }
  volume_sizes    = { staging = 0, production = 40 }
  backups         = { staging = false, production = true }
  private_networks = {
    staging    = "10.10.0.0/24"
    production = "10.20.0.0/24"
  }
  image      = "debian-13"
  location   = "fsn1"
  protection = true
}

run "firewall" {
  command = plan

  assert {
    condition = alltrue([
      for environment in ["staging", "production"] : toset([
        for rule in hcloud_firewall.server[environment].rule :
        "${rule.direction} ${rule.protocol} ${coalesce(rule.port, "-")} ${join(",", sort(rule.source_ips))}"
        ]) == toset([
        "in tcp 22 2001:db8:12::/48,203.0.113.7/32",
        "in tcp 80 0.0.0.0/0,::/0",
        "in tcp 443 0.0.0.0/0,::/0",
        "in udp 443 0.0.0.0/0,::/0",
        "in icmp - 0.0.0.0/0,::/0",
      ])
    ])
    error_message = "The permanent rules are not exactly SSH from the admin networks, the web and ICMP from everywhere."
  }

  assert {
    condition     = { for environment, firewall in hcloud_firewall.temporary : environment => firewall.name } == { staging = "ship-staging", production = "ship-production" }
    error_message = "infra/bin/firewall would not find the firewalls that infra/deploy.conf names."
  }

  assert {
    condition     = alltrue([for firewall in hcloud_firewall.temporary : length(firewall.rule) == 0])
    error_message = "The firewall for temporary rules lets something in from the beginning."
  }

  assert {
    condition     = { for environment, firewall in hcloud_firewall.server : environment => firewall.name } == { staging = "ship-staging-permanent", production = "ship-production-permanent" }
    error_message = "The permanent rules have a name that is not theirs."
  }
}

run "firewall_without_temporary_rules" {
  command = plan

  variables {
    temporary_rules = false
  }

  assert {
    condition     = length(hcloud_firewall.temporary) == 0 && hcloud_firewall.server["production"].name == "ship-production"
    error_message = "Without temporary rules there is one firewall for each environment, called PROJECT-ENVIRONMENT."
  }
}

run "servers" {
  command = plan

  assert {
    condition     = { for environment, server in hcloud_server.server : environment => "${server.name} ${server.server_type} ${server.image}" } == { staging = "ship-staging cx23 debian-13", production = "ship-production cx33 debian-13" }
    error_message = "There is not one server for each environment, with its name and type."
  }

  assert {
    condition     = alltrue([for server in hcloud_server.server : server.delete_protection && server.rebuild_protection && server.keep_disk])
    error_message = "A server is not protected against being deleted or rebuilt."
  }

  assert {
    condition = alltrue(concat(
      [for address in concat(values(hcloud_primary_ip.ipv4), values(hcloud_primary_ip.ipv6)) : address.delete_protection && !address.auto_delete],
      [for volume in hcloud_volume.data : volume.delete_protection],
      [for network in hcloud_network.private : network.delete_protection]
    ))
    error_message = "An address, a volume or a network could be lost with its server."
  }

  assert {
    condition     = { for environment, server in hcloud_server.server : environment => server.backups } == { staging = false, production = true }
    error_message = "The switch for backups does not switch them."
  }

  assert {
    condition     = alltrue([for server in hcloud_server.server : length(server.firewall_ids) > 0 && length(server.public_net) == 1])
    error_message = "A server has no firewall, or addresses that go with it."
  }

  assert {
    condition     = alltrue([for environment, server in hcloud_server.server : server.labels == tomap({ project = "ship", environment = environment, managed-by = "terraform" })])
    error_message = "A server's labels do not say whose it is."
  }

  assert {
    condition     = { for environment, network in hcloud_network.private : environment => network.ip_range } == { staging = "10.10.0.0/24", production = "10.20.0.0/24" } && hcloud_server_network.server["production"].ip == "10.20.0.10"
    error_message = "Each environment has a private network of its own, and its server the address 10 in it."
  }

  assert {
    condition     = keys(hcloud_volume.data) == ["production"] && hcloud_volume.data["production"].size == 40
    error_message = "A size of 0 makes no volume, any other one makes one of that size."
  }

  assert {
    condition     = alltrue([for environment in ["staging", "production"] : hcloud_rdns.ipv4[environment].dns_ptr == var.hostnames[environment] && hcloud_rdns.ipv6[environment].ip_address == "2001:db8:1::1"])
    error_message = "Reverse DNS does not name the server."
  }
}

run "first_boot" {
  command = plan

  assert {
    condition     = alltrue([for server in hcloud_server.server : startswith(server.user_data, "#cloud-config\n")])
    error_message = "cloud-init would not read what a server gets."
  }

  assert {
    condition     = tolist(yamldecode(local.user_data["production"]).users[1].ssh_authorized_keys) == values(var.ssh_public_keys) && !yamldecode(local.user_data["production"]).ssh_pwauth
    error_message = "The administrator does not get the keys, or passwords are taken."
  }

  assert {
    condition     = yamldecode(local.user_data["production"]).runcmd == [["/usr/local/sbin/mount-data-volume", "/dev/disk/by-id/scsi-0HC_Volume_66"]] && yamldecode(local.user_data["staging"]).runcmd == []
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
    condition     = keys(hcloud_server.server) == ["staging"] && keys(hcloud_volume.data) == [] && keys(yamldecode(output.ansible_inventory).all.children) == ["staging"]
    error_message = "One environment alone brings something of the other."
  }
}

run "arm64" {
  command = plan

  variables {
    architecture = "arm64"
    server_types = { staging = "cax11", production = "cax21" }
  }

  assert {
    condition     = hcloud_server.server["production"].server_type == "cax21"
    error_message = "A server with arm64 cannot be made."
  }
}

run "protection_can_be_switched_off" {
  command = plan

  variables {
    protection = false
  }

  assert {
    condition     = !hcloud_server.server["production"].delete_protection && !hcloud_volume.data["production"].delete_protection && !hcloud_primary_ip.ipv4["production"].delete_protection
    error_message = "Something could never be destroyed."
  }
}

run "another_processor_is_refused" {
  command = plan

  variables {
    server_types = { staging = "cx23", production = "cax21" }
  }

  expect_failures = [var.server_types]
}
