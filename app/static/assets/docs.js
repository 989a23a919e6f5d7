// The OpenAPI page: Swagger UI on this service's own description, and nothing from elsewhere.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

// A classic script before this one has put it there.
/** @type {any} */ (window).SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  // Its default would ask validator.swagger.io.
  validatorUrl: null,
});
