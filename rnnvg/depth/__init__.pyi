from .gradients import LayerGradients as LayerGradients
from .gradients import layer_gradients as layer_gradients
from .gradients import layer_profile as layer_profile
from .gradients import network_gradients as network_gradients
from .networks import DeepNetwork as DeepNetwork
from .networks import build as build
