# Versions come from the template. After a change of one: terraform providers lock, see README.md.
terraform {
  required_version = ">= 1.11.0, < 2.0.0"

  required_providers {
    # OVHcloud's Public Cloud is OpenStack. Address and user come from OS_AUTH_URL, OS_USERNAME, …
    openstack = {
      source  = "terraform-provider-openstack/openstack"
      version = "3.4.0"
    }
  }
}
