variable "region" {
  description = "Region of the Public Cloud: GRA11, SBG5, …"
  type        = string
  default     = "GRA11"
}

variable "public_network" {
  description = "OVHcloud's network that leads into the internet."
  type        = string
  default     = "Ext-Net"
}

variable "image" {
  description = "Image of new servers. A server that exists keeps what it was made from."
  type        = string
  default     = "Debian 13"
}

variable "server_types" {
  description = "Flavor of each server."
  type        = map(string)
}

variable "volume_type" {
  description = "Kind of the volumes: classic, high-speed, …"
  type        = string
  default     = "high-speed"
}
