package main

import "github.com/pawlrun/pawl/service"

// services are what flows can call, as the settings say: the same in serve, in dev, and where a flow is checked without a
// server.
func services(settings) (service.Set, error) {
	return service.Set{}, nil
}
