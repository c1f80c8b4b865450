"""The role that watches the API, compiles it to snapshots and streams each proxy its view."""
