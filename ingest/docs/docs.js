// Swagger UI over openapi.json.

/** Swagger UI changes colours by this class alone. */
const dark = matchMedia("(prefers-color-scheme: dark)");
const recolour = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", recolour);
recolour();

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#calls",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  // Types are told of where they are used; the list of all is at the end, closed.
  defaultModelsExpandDepth: 0,
  // It would ask a server elsewhere whether the description is good.
  validatorUrl: null,
});
