package main

import (
	"fmt"

	"github.com/pawlrun/pawl/service"
)

// services are what flows can call, as the settings say: the same in serve, in dev, and where a flow is checked without a
// server.
func services(settings) (service.Set, error) {
	http, err := service.NewHTTP(service.HTTPOptions{})
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	return service.Set{"http": http}, nil
}
