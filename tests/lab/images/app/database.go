package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Npgsql's names (without spaces, in lower case) for what libpq calls otherwise.
var npgsqlNames = map[string]string{
	"host": "host", "server": "host", "port": "port",
	"database": "dbname", "db": "dbname",
	"username": "user", "userid": "user", "uid": "user", "user": "user",
	"password": "password", "pwd": "password", "psw": "password",
	"sslmode": "sslmode", "rootcertificate": "sslrootcert", "applicationname": "application_name",
	"searchpath": "search_path", "timeout": "connect_timeout",
}

// Known to Npgsql, of no meaning here. Anything else is refused, as Npgsql does.
var npgsqlIgnored = " pooling maximumpoolsize minimumpoolsize maxpoolsize minpoolsize commandtimeout keepalive " +
	"includeerrordetail trustservercertificate noresetonclose enlist connectionidlelifetime connectionlifetime " +
	"connectionpruninginterval cancellationtimeout tcpkeepalive multiplexing maxautoprepare persistsecurityinfo " +
	"sslnegotiation channelbinding gssencryptionmode options timezone "

var npgsqlSSLModes = map[string]string{
	"disable": "disable", "allow": "allow", "prefer": "prefer", "require": "require",
	"verifyca": "verify-ca", "verifyfull": "verify-full",
}

func openDatabase(connection string) (*pgxpool.Pool, error) {
	pairs, err := parseNpgsql(connection)
	if err != nil {
		return nil, err
	}
	var words []string
	for name, value := range pairs {
		key := strings.ToLower(strings.ReplaceAll(name, " ", ""))
		translated, known := npgsqlNames[key]
		switch {
		case known && translated == "sslmode":
			mode, valid := npgsqlSSLModes[strings.ToLower(strings.ReplaceAll(value, "-", ""))]
			if !valid {
				return nil, fmt.Errorf("SSL Mode %q is unknown", value)
			}
			value = mode
		case !known && strings.Contains(npgsqlIgnored, " "+key+" "):
			continue
		case !known:
			return nil, fmt.Errorf("keyword not supported: %q", name)
		}
		words = append(words, fmt.Sprintf("%s='%s'", translated, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value)))
	}
	config, err := pgxpool.ParseConfig(strings.Join(words, " "))
	if err != nil {
		return nil, errors.New("cannot be read") // pgx's own error may quote the password
	}
	config.MaxConns = 20
	config.ConnConfig.ConnectTimeout = 5 * time.Second
	return pgxpool.NewWithConfig(context.Background(), config)
}

// parseNpgsql splits "Key=value;Key='quoted; value'", a quote inside quotes being doubled, as .NET's DbConnectionStringBuilder does.
func parseNpgsql(text string) (map[string]string, error) {
	pairs := map[string]string{}
	for rest := strings.TrimLeft(text, "; "); rest != ""; rest = strings.TrimLeft(rest, "; ") {
		key, after, found := strings.Cut(rest, "=")
		if !found {
			return nil, fmt.Errorf("no '=' after %d characters", len(text)-len(rest))
		}
		key, after = strings.TrimSpace(key), strings.TrimLeft(after, " ")
		if after == "" || (after[0] != '\'' && after[0] != '"') {
			value, remaining, _ := strings.Cut(after, ";")
			pairs[key], rest = strings.TrimSpace(value), remaining
			continue
		}
		quote, value := after[:1], strings.Builder{}
		for after = after[1:]; ; {
			inside, remaining, closed := strings.Cut(after, quote)
			if !closed {
				return nil, fmt.Errorf("the quote of %q is not closed", key)
			}
			value.WriteString(inside)
			if after = remaining; !strings.HasPrefix(after, quote) {
				break
			}
			value.WriteString(quote)
			after = after[1:]
		}
		if after = strings.TrimLeft(after, " "); after != "" && after[0] != ';' {
			return nil, fmt.Errorf("text after the quoted value of %q", key)
		}
		pairs[key], rest = value.String(), after
	}
	return pairs, nil
}

// sqlState is PostgreSQL's code of an error, or "" for one that is not PostgreSQL's.
func sqlState(err error) string {
	var failure *pgconn.PgError
	if errors.As(err, &failure) {
		return failure.Code
	}
	return ""
}
