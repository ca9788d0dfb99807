// Objects of kinds that are not Kubernetes' own, held to the operators' definitions of them: values by the validators, and
// unknown keys by the types, both of which were generated from those definitions.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const modules = resolve(process.argv[2]);
const require = createRequire(`${modules}/`);
const { default: ts } = await import(pathToFileURL(require.resolve("typescript")));
const KINDS = {
  HTTPRoute: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute",
  ScaledObject: "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject",
  ServiceMonitor: "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor",
  PrometheusRule: "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule",
};

const faults = [];
const sources = [];
for (const [where, object] of JSON.parse(readFileSync(0, "utf8"))) {
  const path = KINDS[object.kind];
  if (!path) {
    faults.push(`${where}: ${object.kind} is not known`);
    continue;
  }
  const model = (await import(pathToFileURL(`${modules}/node_modules/${path}.js`)))[object.kind];
  if (object.apiVersion !== model.apiVersion) faults.push(`${where}: ${object.kind} is of ${model.apiVersion}`);
  try {
    new model(object).validate();
  } catch (error) {
    faults.push(`${where}: ${object.kind}: ${error.message}`);
  }
  const number = sources.length;
  const text = JSON.stringify(object, null, 1);
  sources.push({ where: `${where}: ${object.kind}`, start: 2, text:
    `import type { I${object.kind} } from "${path}";\nexport const object${number}: I${object.kind} = ${text};\n` });
}
const files = sources.map((source, number) => {
  const file = `${modules}/object-${number}.ts`;
  writeFileSync(file, source.text);
  return file;
});
const program = ts.createProgram(files, {
  noEmit: true, strict: true, skipLibCheck: true, types: [],
  target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext,
});
for (const diagnostic of ts.getPreEmitDiagnostics(program)) {
  const number = files.indexOf(diagnostic.file?.fileName);
  const message = ts.flattenDiagnosticMessageText(diagnostic.messageText, " ");
  const line = diagnostic.file?.text.slice(0, diagnostic.start).split("\n").length;
  faults.push(`${sources[number]?.where ?? diagnostic.file?.fileName}, line ${line}: ${message}`);
}
files.forEach((file) => rmSync(file));
console.log(JSON.stringify(faults));
