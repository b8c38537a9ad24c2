package main

import (
	"maps"
	"testing"
)

func TestParseNpgsql(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"Host=db;Port=5432":                 {"Host": "db", "Port": "5432"},
		"Host=db;Password='a;b''c' ;":       {"Host": "db", "Password": "a;b'c"},
		`Password="x=y;z";SSL Mode=Require`: {"Password": "x=y;z", "SSL Mode": "Require"},
		"Password=p=q'r":                    {"Password": "p=q'r"},
	} {
		if got, err := parseNpgsql(text); err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"Host", "Password='open", "Password='a'b"} {
		if got, err := parseNpgsql(text); err == nil {
			t.Errorf("%s: accepted as %v", text, got)
		}
	}
}
