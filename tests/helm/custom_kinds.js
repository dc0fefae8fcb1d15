// Validates objects of kinds that are not Kubernetes' own. Standard input: a JSON list; standard output: a JSON list of
// what is wrong, null where nothing is.
const path = require("path");
const home = path.resolve(__dirname, "../../target/helm/node_modules/@kubernetes-models");
const kinds = {
  HTTPRoute: require(home + "/gateway-api/gateway.networking.k8s.io/v1").HTTPRoute,
  ServiceMonitor: require(home + "/prometheus-operator/monitoring.coreos.com/v1").ServiceMonitor,
  PrometheusRule: require(home + "/prometheus-operator/monitoring.coreos.com/v1").PrometheusRule,
};
const objects = JSON.parse(require("fs").readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(objects.map((object) => {
  try {
    new kinds[object.kind](object).validate();
    return null;
  } catch (error) {
    return String(error.message);
  }
})));
