# Yours: resources, outputs and providers of your own. No update touches this file.
# A generated block is changed by a file custom_override.tf, which Terraform merges into it.
