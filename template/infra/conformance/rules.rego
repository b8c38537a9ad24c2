# What each rule of rules.yml looks at, in Rego (https://www.openpolicyagent.org). `infra/bin/conformance` gives as input:
#
#   files      names of all files of the repository        tracked    those that Git knows
#   texts      the text of those that rules read           ignored    whether Git ignores .env
#   keys       places of private keys                      migrations calls that migrate a database: {file, line, text}
#   compose    what Compose makes of its files             names      the same with its variables as they are written
#   problem    why Compose cannot read them                today      the date, YYYY-MM-DD
#
# A finding has the rule's number, a file, a line (0 when there is none), the subject that an exception can name, and what was seen.
package conformance

import data.platforms
import data.rules
import data.runbooks

# ----- What is there ----------------------------------------------------------------------------------------------

compose_file := "infra/docker-compose.prod.yml"

own_compose_file := "infra/custom/compose.yml"

settings := regex.find_all_string_submatch_n(`(?m)^([A-Z_]+)=(.*)$`, object.get(input.texts, "infra/deploy.conf", ""), -1)

# As the scripts do: the first line of a name counts.
fact := {name: value |
	some [_, name, _] in settings
	value := [found | some [_, other, found] in settings; other == name][0]
}

has(file) if file in input.files

named(pattern) := {file | some file in input.files; regex.match(pattern, file)}

workflows := {file: yaml.unmarshal(text) |
	some file, text in input.texts
	regex.match(`^\.github/workflows/[^/]+\.ya?ml$`, file)
	yaml.is_valid(text)
	is_object(yaml.unmarshal(text))
}

# YAML 1.1 reads the key "on" as true.
triggers(workflow) := object.get(workflow, "on", object.get(workflow, "true", {}))

triggered_by(workflow, event) if triggers(workflow) == event

triggered_by(workflow, event) if event in triggers(workflow)

triggered_by(workflow, event) if is_object(triggers(workflow)[event])

triggered_by(workflow, event) if triggers(workflow)[event] == null

commands(workflow) := [command |
	some job in workflow.jobs
	some step in job.steps
	command := step.run
]

records := {file: text |
	some file, text in input.texts
	regex.match(`^docs/(adr|decisions)/[^/]+\.md$`, file)
	not regex.match(`(?i)/(template|readme|index)\.md$`, file)
}

recorded(pattern) if {
	some text in records
	regex.match(pattern, text)
}

# A record is about what its title names.
decided(subject) if recorded(sprintf(`(?mi)^# .*(%s)`, [subject]))

# ----- Services ---------------------------------------------------------------------------------------------------

services := input.compose.services

one_shot(service) if {
	service.restart == "no"
	count(service.profiles) > 0
}

running[name] := service if {
	some name, service in services
	not one_shot(service)
}

image(service) := object.get(service, "image", "")

proxies contains name if {
	some name in object.keys(running)
	name == object.get(fact, "PROXY", "")
}

proxies contains name if {
	some name, service in running
	regex.match(`(^|[/_-])(caddy|nginx|traefik|haproxy)([:@_-]|$)`, sprintf("%s %s", [name, image(service)]))
}

proxies contains name if {
	some name in object.keys(running)
	name in {"caddy", "nginx", "traefik", "haproxy", "proxy"}
}

databases contains name if {
	some name, service in running
	regex.match(`(^|[/-])(postgres|postgresql|postgis|timescaledb)([:@-]|$)`, image(service))
}

databases contains name if {
	some name in object.keys(running)
	name in {"postgres", "postgresql", "db", "database"}
}

front_ends := {front | some front in split(object.get(fact, "FRONTENDS", ""), " "); front != ""}

# Both slots of a service, or the service.
is_service(name, base) if name in {base, concat("-", [base, "blue"]), concat("-", [base, "green"])}

exposed := proxies | {name | some name in object.keys(running); some front in front_ends; is_service(name, front)}

applications := {name | some name in object.keys(running); not name in databases; not name in proxies}

networks(service) := object.keys(object.get(service, "networks", {"default": {}}))

# ----- Where it stands --------------------------------------------------------------------------------------------

compose_files := [file | some file in array.concat([object.get(input, "compose_file", compose_file)], [own_compose_file]); input.texts[file]]

line_of(file, pattern) := min(found) if {
	found := {number | some [number, line] in numbered(file); regex.match(pattern, line)}
	count(found) > 0
}

default line_or_none(_, _) := 0

line_or_none(file, pattern) := line_of(file, pattern)

# The first of the files that has such a line, or else the first.
place(files, pattern) := [file, line] if {
	found := [[file, line] | some file in files; line := line_of(file, pattern)]
	count(found) > 0
	[file, line] := found[0]
} else := [files[0], 0] if count(files) > 0

else := [compose_file, 0]

about(rule, file, line, subject, seen) := {"rule": rule, "file": file, "line": line, "subject": subject, "seen": seen}

about_service(rule, name, seen) := about(rule, file, line, name, sprintf("%s %s", [name, seen])) if {
	[file, line] := place(compose_files, sprintf(`^  ["']?%s["']?:\s*(&\S+)?\s*$`, [name]))
}

numbered(file) := [[number, line] |
	some index, line in split(object.get(input.texts, file, ""), "\n")
	number := index + 1
]

# Lines of a text that match, outside of comments: [number, line].
matching(file, pattern) := [[number, trim_space(line)] |
	some [number, line] in numbered(file)
	not regex.match(`^\s*(#|//)`, line)
	regex.match(pattern, line)
]

# ----- 1  What runs -----------------------------------------------------------------------------------------------

findings contains about("1.1", compose_files[0], 0, "postgres", "no service runs PostgreSQL, and DATABASE is not managed") if {
	services
	count(databases) == 0
	object.get(fact, "DATABASE", "container") != "managed"
}

findings contains about("1.2", compose_files[0], 0, "api", "no service is called api") if {
	services
	not some_service("api")
}

some_service(base) if {
	some name in object.keys(services)
	is_service(name, base)
}

findings contains about_service("1.3", name, "runs the image of the API") if {
	some name, service in running
	is_service(name, "worker")
	some other, api in running
	is_service(other, "api")
	image(api) == image(service)
}

findings contains about("1.4", compose_files[0], 0, front, sprintf("the front end %s has no service", [front])) if {
	services
	some front in front_ends
	not some_service(front)
}

findings contains about("1.5", compose_files[0], 0, "proxy", "no service is a proxy") if {
	services
	count(proxies) == 0
}

# ----- 2  Which files ---------------------------------------------------------------------------------------------

findings contains about("2.1", compose_file, 0, compose_file, "the file is missing") if not has(compose_file)

findings contains about("2.2", file, 0, file, "the file is missing") if {
	count(named(`^infra/(Caddyfile|nginx\.conf)$`)) == 0
	file := {"nginx": "infra/nginx.conf"}[object.get(fact, "PROXY", "caddy")]
}

findings contains about("2.2", "infra/Caddyfile", 0, "infra/Caddyfile", "the file is missing") if {
	count(named(`^infra/(Caddyfile|nginx\.conf)$`)) == 0
	object.get(fact, "PROXY", "caddy") != "nginx"
}

findings contains about("2.3", ".env.example", 0, ".env.example", "the file is missing") if not has(".env.example")

findings contains about("2.3", ".env.example", number, name, sprintf("%s has a value", [name])) if {
	some [number, line] in numbered(".env.example")
	name := regex.find_all_string_submatch_n(`^[#\s]*([A-Z][A-Z0-9_]*)=\S`, line, 1)[0][1]
}

findings contains about("2.4", file, 0, file, "Git has it") if {
	some file in input.tracked
	regex.match(`(^|/)\.env(\.[^/]+)?$`, file)
	not regex.match(`\.(example|sample|template|development|test)$`, file)
}

findings contains about("2.4", ".gitignore", 0, ".env", "Git does not ignore .env") if input.ignored == false

# ----- 3  Servers -------------------------------------------------------------------------------------------------

findings contains about("3.1", "docs/adr", 0, "provisioning", "no decision record says how servers are made") if {
	not recorded(`(?i)provision|how servers are made`)
}

sshd := "infra/server/sshd.conf"

findings contains about("3.4", sshd, line_or_none(sshd, sprintf(`(?i)^\s*%s\b`, [setting])), setting, sprintf("%s is not \"no\"", [setting])) if {
	has(sshd)
	some setting in {"PasswordAuthentication", "KbdInteractiveAuthentication", "PermitRootLogin"}
	count(matching(sshd, sprintf(`(?i)^\s*%s\s+no\s*$`, [setting]))) == 0
}

findings contains about_service("3.5", name, "publishes a port, and is not the proxy") if {
	some name, service in services
	count(object.get(service, "ports", [])) > 0
	not name in proxies
}

findings contains about_service("3.5", name, sprintf("publishes port %v", [port.target])) if {
	some name in proxies
	some port in object.get(services[name], "ports", [])
	is_object(port)
	not port.target in {80, 443}
}

nftables := "infra/server/nftables.conf"

# Without "saddr" a rule is for everybody. SSH may be, where the provider's firewall decides.
findings contains about("3.5", nftables, number, "nftables", sprintf("lets everybody in: %s", [line])) if {
	some [number, line] in matching(nftables, `\b(tcp|udp)\s+dport\b.*\baccept\b`)
	not contains(line, "saddr")
	some port in regex.find_n(`\b\d+\b`, regex.find_n(`dport\s+(\{[^}]*\}|\S+)`, line, 1)[0], -1)
	not port in allowed_ports
}

allowed_ports := {"80", "443"} | {port | port := "22"; has("infra/bin/firewall")}

apt := "infra/server/apt-periodic.conf"

findings contains about("3.6", apt, line_or_none(apt, `Unattended-Upgrade`), "Unattended-Upgrade", "they are switched off") if {
	has(apt)
	count(matching(apt, `Unattended-Upgrade\s+"1"`)) == 0
}

findings contains about("3.7", "infra/deploy.conf", line_or_none("infra/deploy.conf", sprintf(`^%s=`, [name])), name, sprintf("%s is %s", [name, value])) if {
	some name, value in fact
	endswith(name, "_SSH")
	startswith(value, "root@")
}

# ----- 4  Secrets -------------------------------------------------------------------------------------------------

secret_name := `(?i)(password|passwd|secret|token|private_?key|api_?key|access_?key)$`

# What is filled in later, or points elsewhere.
is_literal(value) if {
	is_string(value)
	not value in {"", "true", "false"}
	not regex.match(`\$\{|\$[A-Z]|^/|^\*+$`, value)
}

findings contains about("4.1", file, line, name, sprintf("%s of %s is written down", [name, service_name])) if {
	some service_name, service in input.names.services
	some name, value in service.environment
	is_secret(name, value)
	[file, line] := place(compose_files, sprintf(`^\s*-?\s*["']?%s["']?\s*[:=]`, [name]))
}

is_secret(name, value) if {
	regex.match(secret_name, name)
	is_literal(value)
}

findings contains about("4.1", file, number, name, sprintf("%s is written down", [name])) if {
	some file in env_files
	some [number, line] in matching(file, `^[A-Za-z_][A-Za-z0-9_]*=`)
	[_, name, value] := regex.find_all_string_submatch_n(`^([A-Za-z_][A-Za-z0-9_]*)=(.*)$`, line, 1)[0]
	is_secret(name, value)
}

# A connection string.
is_secret(_, value) if {
	is_string(value)
	regex.match(`(?i)(password|pwd)=[^;$\s]+|://[^/:@\s$]+:[^@$\s]+@`, value)
}

env_files := sort([file | some file in object.keys(input.texts); regex.match(`^infra/custom/[^/]+\.env$`, file); file != "infra/custom/check.env"])

findings contains about("4.1", file, line_or_none(file, sprintf(`^\s*%s:`, [name])), name, sprintf("%s is written down", [name])) if {
	some file, workflow in workflows
	walk(workflow, [path, value])
	count(path) > 1
	path[count(path) - 2] in {"env", "with"}
	name := path[count(path) - 1]
	is_string(name)
	regex.match(secret_name, name)
	is_literal(value)
}

findings contains about("4.2", place.file, place.line, place.file, "holds a private key") if some place in input.keys

findings contains about_service("4.3", name, sprintf("runs %s, which has no digest", [shown(service)])) if {
	some name, service in services
	not regex.match(`@sha256:[0-9a-f]{64}$`, image(service))

	# Where Compose could not fill the variables in, one that a release fills in is as good.
	not by_variable(service)
}

by_variable(service) if {
	not input.filled
	regex.match(`^\$\{[A-Z0-9_]+(:?\?[^}]*)?\}$`, image(service))
}

shown(service) := image(service) if image(service) != ""

else := "what is built on the server"

# ----- 5  Deploys -------------------------------------------------------------------------------------------------

findings contains about("5.1", ".github/workflows", 0, "build", "no workflow builds images") if {
	not some_workflow_says(`docker/(bake|build-push)-action@|\bdocker (buildx|build|compose build)\b`)
}

some_workflow_says(pattern) if {
	some file in object.keys(workflows)
	count(matching(file, pattern)) > 0
}

findings contains about("5.2", file, 0, file, "is a Compose file for staging alone") if {
	some file in named(`(?i)(^|/)(docker-)?compose[.-](prod[.-])?(staging|stage|stg)[^/]*\.ya?ml$`)
}

findings contains about("5.4", compose_files[0], 0, "migrate", "no one-shot service is called migrate") if {
	services
	not is_one_shot("migrate")
}

is_one_shot(name) if one_shot(services[name])

# ----- 6  Backups -------------------------------------------------------------------------------------------------

own_backups if object.get(fact, "BACKUP_METHOD", "") != "provider_snapshots"

findings contains about("6.1", "infra/server/backup.timer", 0, "backup.timer", "nothing makes backups on a schedule") if {
	own_backups
	count(named(`^infra/(.*/)?[^/]*backup[^/]*\.timer$`) - named(`/prune-[^/]*$`)) == 0
}

findings contains about("6.2", "infra/backup.env.example", 0, "backup.env.example", "nothing says where backups go") if {
	own_backups
	not has("infra/backup.env.example")
}

findings contains about("6.3", "infra/server/restore-drill.timer", 0, "restore-drill.timer", "no restore is rehearsed on a schedule") if {
	own_backups
	count(named(`^infra/(.*/)?[^/]*drill[^/]*\.timer$`)) == 0
}

# ----- 7  Beyond one server ---------------------------------------------------------------------------------------

findings contains about("7.2", file, number, "load balancer", sprintf("makes a load balancer: %s", [line])) if {
	some file in named(`\.tf$`)
	some [number, line] in matching(file, `^\s*resource\s+"[a-z_]*(load_?balancer|_lb)(_[a-z_]+)?"`)
	not decided(`load.?balanc`)
}

findings contains about("7.3", file, 0, file, "belongs to another platform") if {
	some file in input.files
	some platform in platforms
	regex.match(sprintf(`(^|/)%s$`, [replace(platform, ".", `\.`)]), file)
	not decided(sprintf(`kubernetes|paas|platform|%s`, [regex.replace(lower(platform), `\..*$`, "")]))
}

findings contains about("7.3", file, number, file, "is a manifest of Kubernetes") if {
	some file in named(`^(infra|deploy|k8s|charts|manifests)/.*\.ya?ml$`)
	some [number, _] in matching(file, `^kind:\s*(Deployment|StatefulSet|DaemonSet|Ingress|Service|CronJob)\s*$`)
	not decided("kubernetes")
}

# ----- 8  Database ------------------------------------------------------------------------------------------------

findings contains about_service("8.1", name, "keeps its data in the container") if {
	some name in databases
	not has_data_volume(services[name])
}

has_data_volume(service) if {
	some mount in service.volumes
	mount.type == "volume"
	mount.source
	startswith(mount.target, "/var/lib/postgresql")
}

findings contains about_service("8.2", name, sprintf("gets %s", [variable])) if {
	some name in applications
	some model in [input.names, input.compose]
	some variable, value in object.get(model.services[name], "environment", {})
	regex.match(`POSTGRES(_OWNER)?_PASSWORD\b|_owner[;"']`, sprintf("%s %v", [variable, value]))
}

findings contains about("8.3", call.file, call.line, call.file, sprintf("calls %s", [call.text])) if some call in input.migrations

# ----- 9  Checks --------------------------------------------------------------------------------------------------

findings contains about("9.1", object.get(input, "compose_file", compose_file), 0, "compose", sprintf("Compose says: %s", [input.problem])) if input.problem != ""

findings contains about("9.2", ".github/workflows", 0, "compose", "no workflow validates the Compose file on every pull request") if {
	not validated_on_pull_requests
}

validated_on_pull_requests if {
	some workflow in workflows
	triggered_by(workflow, "pull_request")
	not leaves_infra_out(workflow)
	some command in commands(workflow)
	regex.match(`(?m)infra/bin/check(\s+compose\b|\s*$)|docker[ -]compose\b.*\bconfig\b`, command)
}

leaves_infra_out(workflow) if {
	paths := triggers(workflow).pull_request.paths
	not covers_infra(paths)
}

covers_infra(paths) if {
	some path in paths
	regex.match(`^(\*\*|infra/\*\*|infra/\*\*/\*)$`, path)
}

findings contains about("9.3", ".github/workflows", 0, "terraform", "no workflow validates infra/terraform") if {
	count(named(`^infra/terraform/.*\.tf$`)) > 0
	not some_workflow_runs(`infra/bin/check(\s+terraform\b|\s*$)|terraform\b.*\bvalidate\b`)
}

some_workflow_runs(pattern) if {
	some workflow in workflows
	triggered_by(workflow, "pull_request")
	some command in commands(workflow)
	regex.match(pattern, command)
}

# ----- 10  A server that is open to the world -----------------------------------------------------------------------

findings contains about("10.1", file, number, file, sprintf("says: %s", [line])) if {
	some file in object.keys(input.texts)
	regex.match(`(^|/)Dockerfile[^/]*$|^infra/(deploy|custom/images)\.conf$|(^|/)(docker-)?compose[^/]*\.ya?ml$`, file)
	some [number, line] in matching(file, `:latest\b`)
}

findings contains about_service("10.2", name, "can write to its root file system") if {
	some name, service in services
	object.get(service, "read_only", false) != true
}

findings contains about_service("10.3", name, "keeps capabilities") if {
	some name, service in services
	not "ALL" in object.get(service, "cap_drop", [])
}

findings contains about_service("10.4", name, "can gain rights") if {
	some name, service in services
	not cannot_gain_rights(service)
}

cannot_gain_rights(service) if {
	some option in service.security_opt
	regex.match(`^no-new-privileges([:=]true)?$`, option)
}

findings contains about_service("10.5", name, "has no health check") if {
	some name, service in running
	not is_asked(service)
}

is_asked(service) if {
	count(service.healthcheck.test) > 0
	service.healthcheck.test[0] != "NONE"
	not object.get(service.healthcheck, "disable", false)
}

findings contains about_service("10.6", name, sprintf("has no limit of %s", [limit])) if {
	some name, service in services
	some limit in {"cpus", "memory", "pids"}
	not object.get(service, ["deploy", "resources", "limits", limit], false)
}

findings contains about_service("10.7", name, sprintf("is on the network %s with %s", [network, database])) if {
	some name in exposed
	some database in databases
	some network in (networks(services[name]) & networks(services[database]))
}

findings contains about_service("10.7", database, sprintf("is on the network %s, which leads out, with %s", [network, name])) if {
	some database in databases
	some name in applications
	some network in (networks(services[name]) & networks(services[database]))
	object.get(input.compose, ["networks", network, "internal"], false) != true
}

findings contains about("10.8", file, number, action, sprintf("uses %s", [action])) if {
	some file in object.keys(input.texts)
	regex.match(`^\.github/(workflows|actions)/.*\.ya?ml$`, file)
	some [number, line] in matching(file, `^(-\s+)?uses:|^\s*(-\s+)?uses:`)
	action := regex.find_all_string_submatch_n(`uses:\s*["']?([^\s"'#]+)`, line, 1)[0][1]
	not regex.match(`^\./|@[0-9a-f]{40}$|^docker://.*@sha256:[0-9a-f]{64}$`, action)
}

findings contains about("10.9", file, 0, file, "grants what the repository's settings say") if {
	some file, workflow in workflows
	not granted(workflow)
}

granted(workflow) if is_object(workflow.permissions)

granted(workflow) if workflow.permissions == "read-all"

granted(workflow) if {
	not workflow.permissions
	every job in workflow.jobs {
		is_object(job.permissions)
	}
}

findings contains about("10.9", file, line_or_none(file, `write-all`), file, "grants everything") if {
	some file, workflow in workflows
	some part in array.concat([workflow], [job | some job in workflow.jobs])
	part.permissions == "write-all"
}

findings contains about_service("10.10", name, sprintf("has %s", [what])) if {
	some name, service in services
	some what in powers(service)
}

powers(service) := (rooms(service) | capabilities(service)) | filters(service)

rooms(service) := {what |
	some what, present in {
		"privileged mode": object.get(service, "privileged", false) == true,
		"the host's network": object.get(service, "network_mode", "") == "host",
		"the host's processes": object.get(service, "pid", "") == "host",
		"the host's memory": object.get(service, "ipc", "") == "host",
		"the Docker socket": mounts_socket(service),
	}
	present
}

capabilities(service) := {sprintf("the capability %s", [name]) |
	some name in object.get(service, "cap_add", [])
	trim_prefix(upper(name), "CAP_") in owning
}

filters(service) := {option |
	some option in object.get(service, "security_opt", [])
	endswith(option, "unconfined")
}

# With each of these root in the container is root on the server.
owning := {"ALL", "BPF", "DAC_READ_SEARCH", "NET_ADMIN", "SYS_ADMIN", "SYS_BOOT", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO"}

default mounts_socket(_) := false

mounts_socket(service) if {
	some mount in service.volumes
	endswith(object.get(mount, "source", ""), "docker.sock")
}

findings contains about_service("10.11", name, "fills the disk with its log") if {
	some name, service in services
	object.get(service, ["logging", "driver"], "json-file") == "json-file"
	not object.get(service, ["logging", "options", "max-size"], false)
}

findings contains about("10.12", file, 0, name, "the runbook is missing") if {
	some name in runbooks
	file := sprintf("docs/runbooks/%s.md", [name])
	not has(file)
}

findings contains about("10.13", file, 1, file, "has no status") if {
	some file, text in records
	not regex.match(`(?mi)^\W*status\b`, text)
}

findings contains about("10.13", "docs/adr", 0, "docs/adr", "there is no decision record") if count(records) == 0

findings contains about_service("10.14", name, "stays down after a crash or a reboot") if {
	some name, service in running
	not object.get(service, "restart", "no") in {"always", "unless-stopped"}
}

# ----- Exceptions -------------------------------------------------------------------------------------------------

exceptions_file := "infra/custom/conformance.yml"

exceptions_text := object.get(input.texts, exceptions_file, "")

exceptions := object.get(yaml.unmarshal(exceptions_text), "exceptions", []) if {
	yaml.is_valid(exceptions_text)
	is_object(yaml.unmarshal(exceptions_text))
} else := []

valid_exceptions := [exception |
	some exception in exceptions
	problem_with(exception) == ""
]

problem_with(exception) := "an entry is not a list of names and values" if {
	not is_object(exception)
} else := sprintf("rule %v needs quotes, or 10.10 would mean 10.1", [exception.rule]) if {
	is_number(exception.rule)
} else := sprintf("there is no rule %v", [object.get(exception, "rule", "without a number")]) if {
	not rules[object.get(exception, "rule", "")]
} else := sprintf("the exception from %s has no reason", [exception.rule]) if {
	count(trim_space(sprintf("%v", [object.get(exception, "reason", "")]))) < 10
} else := sprintf("until is %v, which is no date like 2027-06-30", [exception.until]) if {
	not regex.match(`^\d{4}-\d{2}-\d{2}`, sprintf("%v", [object.get(exception, "until", "9999-12-31")]))
} else := sprintf("the exception from %s has ended on %s", [exception.rule, last_day(exception)]) if {
	last_day(exception) < input.today
} else := ""

last_day(exception) := substring(sprintf("%v", [object.get(exception, "until", "9999-12-31")]), 0, 10)

applies(exception, finding) if {
	exception.rule == finding.rule
	object.get(exception, "where", finding.subject) in {finding.subject, finding.file}
}

excepted(finding) := exception if {
	exception := [each | some each in valid_exceptions; applies(each, finding)][0]
}

problems contains about("exceptions", exceptions_file, 0, "", problem) if {
	some exception in exceptions
	problem := problem_with(exception)
	problem != ""
}

problems contains about("exceptions", exceptions_file, 0, "", "the file is no YAML") if {
	exceptions_text != ""
	not yaml.is_valid(exceptions_text)
}

unused := [exception |
	some exception in valid_exceptions
	count([finding | some finding in findings; applies(exception, finding)]) == 0
]

# ----- What the program shows -------------------------------------------------------------------------------------

report := {
	"open": [finding | some finding in sorted(findings | problems); not excepted(finding)],
	"excepted": [object.union(finding, {"reason": excepted(finding).reason}) | some finding in sorted(findings)],
	"unused": unused,
	"rules": rules,
}

# By number: 10.2 comes before 10.10.
sorted(set) := [finding |
	some [_, _, _, _, finding] in sort([[part(finding.rule, 0), part(finding.rule, 1), finding.file, finding.line, finding] | some finding in set])
]

part(rule, index) := to_number(split(rule, ".")[index]) if regex.match(`^\d+\.\d+$`, rule)

else := 0
