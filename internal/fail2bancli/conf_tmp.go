package fail2bancli

import (
	"tocsin/internal/api"
	"tocsin/internal/fail2ban"
)

func (c *client) config() (*fail2ban.Config, error)                       { panic("x") }
func (c *client) seconds(string) int                                      { panic("x") }
func (c *client) showConfig(dump, test bool) int                          { panic("x") }
func (c *client) growth(j *api.JailDetail, option string) (string, error) { panic("x") }
