"""The shop: five small services that give a mesh something to carry.

gateway -> catalogue (v1, v2) and orders; orders -> catalogue and stock, a TCP service that
speaks first; load asks the gateway at a steady rate. They know nothing of the mesh and run
unchanged on a real cluster from the one image. Deliberately without a database or retries:
what fails shows.
"""
