// Renders openapi.json, with nothing from outside.

const place = document.getElementById("calls");

function node(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function table(heads, rows) {
  const line = (cells, kind) => node("tr", {}, ...cells.map((cell) => node(kind, {}, cell)));
  return node("table", {}, line(heads, "th"), ...rows.map((row) => line(row, "td")));
}

const code = (text) => node("code", { textContent: text });

/** A schema in a line: the name it refers to, or its type. */
function typeOf(schema = {}) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  const choices = schema.oneOf ?? schema.anyOf ?? schema.allOf;
  if (choices) return choices.map(typeOf).join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const type = [schema.type ?? "any"].flat().join(" | ");
  if (type.startsWith("array")) return `${typeOf(schema.items)}[]`;
  const range = [schema.minimum, schema.maximum].some((end) => end !== undefined)
    ? ` ${schema.minimum ?? ""}…${schema.maximum ?? ""}`
    : "";
  return type + range;
}

function contents(content = {}) {
  const kinds = Object.entries(content).map(([kind, { schema }]) => {
    const type = schema ? typeOf(schema) : "";
    return kind.startsWith("image/") ? kind : `${kind}${type ? `: ${type}` : ""}`;
  });
  return code(kinds.join("\n"));
}

function call(method, path, operation) {
  const parts = [];
  if (operation.description) parts.push(node("p", { textContent: operation.description }));
  if (operation.parameters?.length) {
    const rows = operation.parameters.map((p) => [code(p.name), code(typeOf(p.schema)), p.description ?? ""]);
    parts.push(node("h4", { textContent: "Query" }), table(["name", "type", ""], rows));
  }
  if (operation.requestBody) {
    const body = operation.requestBody;
    parts.push(node("h4", { textContent: "Body" }));
    if (body.description) parts.push(node("p", { textContent: body.description }));
    parts.push(node("pre", {}, contents(body.content)));
  }
  const answers = Object.entries(operation.responses).map(([status, answer]) => [
    status,
    answer.description ?? "",
    contents(answer.content),
  ]);
  parts.push(node("h4", { textContent: "Answers" }), table(["status", "", "content"], answers));
  const head = node("summary", {}, node("span", { className: "method", textContent: method.toUpperCase() }));
  head.append(code(path), node("span", { className: "says", textContent: operation.summary ?? "" }));
  return node("details", {}, head, node("div", {}, ...parts));
}

function schemaOf(name, schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([field, type]) => [
    code(field),
    code(typeOf(type)),
    type.description ?? "",
  ]);
  const body = node("div", {});
  if (schema.description) body.append(node("p", { textContent: schema.description }));
  body.append(rows.length ? table(["field", "type", ""], rows) : node("pre", {}, code(typeOf(schema))));
  return node("details", {}, node("summary", {}, code(name)), body);
}

function render(api) {
  place.replaceChildren();
  for (const { name, description } of api.tags ?? []) {
    place.append(node("h2", { textContent: name }), node("p", { textContent: description ?? "" }));
    for (const [path, operations] of Object.entries(api.paths)) {
      for (const [method, operation] of Object.entries(operations)) {
        if (operation.tags?.includes(name)) place.append(call(method, path, operation));
      }
    }
  }
  place.append(node("h2", { textContent: "Types" }));
  for (const [name, schema] of Object.entries(api.components.schemas)) place.append(schemaOf(name, schema));
}

try {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  render(await response.json());
} catch (error) {
  place.replaceChildren(node("p", { textContent: `The description could not be loaded: ${error.message}` }));
}
