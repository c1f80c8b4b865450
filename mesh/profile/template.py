"""A ServiceProfile to start from, with what each field means; pure."""

from __future__ import annotations

from typing import Final

from mesh.core.names import service_fqdn

_TEXT: Final = """\
# Name: the full name of the Service. A profile in the namespace of a client goes before this one.
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata:
  name: {fqdn}
  namespace: {namespace}
spec:
  # Routes are tried in order; the first that a request meets names it in metrics.
  routes:
  - name: GET /items/{{id}}
    condition:
      method: GET
      pathRegex: /items/[^/]*        # RE2, the whole path without its query
    timeout: 2s                      # then the proxy answers 504
    responseClasses:                 # what counts as failure; without them, 5xx
    - condition:
        status:
          min: 500
          max: 599
      isFailure: true
  - name: other changes
    condition:
      all:                           # any and not work alike
      - pathRegex: /items.*
      - not:
          method: GET
"""


def render_template(service: str, namespace: str, cluster_domain: str) -> str:
    fqdn = service_fqdn(service, namespace, cluster_domain)
    return _TEXT.format(fqdn=fqdn, namespace=namespace)
