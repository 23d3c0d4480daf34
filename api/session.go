package api

const sessionCookie = "__Host-pawl"
