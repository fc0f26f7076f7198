"""The models of the API's requests and answers, a module for each noun. The OpenAPI document is made from them."""
