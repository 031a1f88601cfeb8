"""What a measured time means: percentiles and their bounds, steadiness, disturbance, other tools' words."""
