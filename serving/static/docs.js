// Starts Swagger UI on /docs; its own bundle has run before, and is all that it needs.

globalThis.SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  validatorUrl: null, // by default the address of this server would be sent to another host
});
