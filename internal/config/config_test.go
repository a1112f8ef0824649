package config

import (
	"testing"
)

func TestSmoke(t *testing.T) {
	t.Logf("%+v", Default())
	_, err := Parse("tocsin.toml", []byte("findtime = 10x\nbantme = \"1h\"\n[guard]\nobserve = 1\nallow=[\"192.0.2.7/24\", \"foo\", 3]\n[[jail]]\nmaxretry=0\nfindtime=\"10x\"\nbantime=-1\nports=\"22\"\n[jail]\nname=\"sshd\"\n[[jail]]\nname=\"sshd\"\nsources=[\"/var/log/auth.log\"]\n[gard]\nx=1\n"))
	t.Log(err)
}
