# What must never be accepted, with the values of terraform.tfvars for everything else.
mock_provider "openstack" {}

variables {
  ssh_public_keys = { anna = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxpc3RlbmluZ3RvdGhlc2Vh anna" }

  server_types = { staging = "flavor", production = "flavor" }
}

run "ssh_from_everywhere" {
  command = plan

  variables {
    admin_networks = ["0.0.0.0/0"]
  }

  expect_failures = [var.admin_networks]
}

run "ssh_from_everywhere_by_ipv6" {
  command = plan

  variables {
    admin_networks = ["203.0.113.7/32", "::/0"]
  }

  expect_failures = [var.admin_networks]
}

run "ssh_from_half_the_world" {
  command = plan

  variables {
    admin_networks = ["0.0.0.0/1"]
  }

  expect_failures = [var.admin_networks]
}

run "ssh_from_nowhere" {
  command = plan

  variables {
    admin_networks = []
  }

  expect_failures = [var.admin_networks]
}

run "ssh_from_what_is_no_network" {
  command = plan

  variables {
    admin_networks = ["203.0.113.7"]
  }

  expect_failures = [var.admin_networks]
}

run "nobody_may_log_in" {
  command = plan

  variables {
    ssh_public_keys = {}
  }

  expect_failures = [var.ssh_public_keys]
}

run "a_private_key" {
  command = plan

  variables {
    ssh_public_keys = { anna = "-----BEGIN OPENSSH PRIVATE KEY-----" }
  }

  expect_failures = [var.ssh_public_keys]
}

run "an_environment_of_another_name" {
  command = plan

  variables {
    environments = ["live"]
  }

  expect_failures = [var.environments]
}

run "a_volume_too_small" {
  command = plan

  variables {
    volume_sizes = { staging = 0, production = 5 }
  }

  expect_failures = [var.volume_sizes]
}

run "a_network_that_docker_uses" {
  command = plan

  variables {
    private_networks = { staging = "10.201.0.0/24", production = "10.20.0.0/24" }
  }

  expect_failures = [var.private_networks]
}

run "a_name_that_is_no_slug" {
  command = plan

  variables {
    project = "Ship_1"
  }

  expect_failures = [var.project]
}
